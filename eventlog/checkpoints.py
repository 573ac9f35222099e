"""The view ``checkpoints``: the checkpoints of a log in the form in which CrewAI's own tools read theirs.

::

    snapshots (kind checkpoint) → checkpoint_marks ← rows that CrewAI itself inserts, with their data
                                         │
    events: the root's kickoff ─ inputs ─┤
            its definition ─ entity ─────┼→ checkpoint_documents → checkpoints
            task_completed, methods ─────┘                         (rowid, id, created_at, parent_id, branch, data)

A sealed log has the marks and none of the views: SQL cannot open a sealed value. Its marks have no ``data``.

A document is computed when it is read: pruning takes a mark away and no event, and a long log costs a
document nothing, because all it needs is found by path (``events_of_record``). It is several views because
SQLite's parser has a stack of 100. CrewAI opens the file with plain ``sqlite3``, so there are only built-in
functions here, none newer than SQLite 3.38.
"""

from __future__ import annotations

from eventlog.views import TEXT_OF, UUID_TEXT

LANDMARKS = {
    "task_completed": "crewai.events.types.task_events:TaskCompletedEvent",
    "method_execution_finished": "crewai.events.types.flow_events:MethodExecutionFinishedEvent",
    "eventlog.definition": "",
    "task_started": "crewai.events.types.task_events:TaskStartedEvent",
    "eventlog.fork_edited": "",
}
"""Event types the view looks for, and their classes. Every file has them under the same ids: an index can name them."""
COMPLETED, FINISHED, DEFINITION, STARTED, EDITED = range(1, len(LANDMARKS) + 1)

NAMES = "INSERT INTO names (id, kind, name, label) VALUES " + ", ".join(
    f"({number}, 'type', '{name}', '{label}')" for number, (name, label) in enumerate(LANDMARKS.items(), 1)
)

_LANDMARK = f"type IN ({', '.join(map(str, range(1, len(LANDMARKS) + 1)))})"

TABLES = (
    f"CREATE INDEX events_of_record ON events (branch, path, type) WHERE {_LANDMARK}",
    """CREATE TABLE checkpoint_marks (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,  -- time and seq of the event: 20260115T101112_0000002a
  created_at TEXT NOT NULL,
  branch INTEGER,             -- of the log's own; the document is computed when it is read
  seq INTEGER,
  trigger TEXT,
  parent_id TEXT,             -- of those CrewAI wrote: as it gave them
  branch_name TEXT,
  data TEXT
) STRICT""",
    "CREATE INDEX checkpoint_marks_by_place ON checkpoint_marks (branch, seq)",
)


def _lineage(branch: str, seq: str) -> str:
    """Return the table ``up`` of a branch and its ancestors, each with the seqs that belong to the lineage.

    What compaction retained below a base belongs to it like all the rest. A parent is older than its forks: what says
    otherwise was made by hand, and might go round in a circle.
    """
    return f"""up (owner, low, high) AS (
    SELECT id, coalesce(fork_seq, 0), {seq} FROM branches WHERE id = {branch}
    UNION ALL SELECT above.id, coalesce(above.fork_seq, 0), min(up.high, child.fork_seq)
    FROM up JOIN branches AS child ON child.id = up.owner JOIN branches AS above ON above.id = child.parent
    WHERE above.id < child.id)"""


def _plain(value: str) -> str:
    """Return a stored JSON value as CrewAI would write it: contents in their place, tags as what they stand for."""
    return f"""(WITH RECURSIVE step (n, doc) AS (
    SELECT 0, {value}
    UNION ALL SELECT n + 1, json_set(doc, tag.path, json(coalesce(CASE
      WHEN tag.key = '$content' THEN (SELECT body FROM content_json WHERE hash = tag.value)
      WHEN tag.key IN ('$model', '$dataclass') THEN doc -> (tag.path || '.fields')
      WHEN tag.key = '$enum' THEN doc -> (tag.path || '.v')
      WHEN tag.key = '$map' AND NOT EXISTS (SELECT 1 FROM json_each(tag.value) WHERE value ->> 0 GLOB '$*')
      THEN (SELECT json_group_object(value ->> 0, json(value -> 1)) FROM json_each(tag.value))
      ELSE doc -> tag.fullkey END, 'null')))
    FROM step JOIN json_tree(step.doc) AS tag
    WHERE tag.id = (SELECT max(id) FROM json_tree(step.doc) WHERE key GLOB '$*') AND n < 10000)
  SELECT doc FROM step ORDER BY n DESC LIMIT 1)"""


def _record(kind: int, where: str) -> str:
    """Return FROM and WHERE of a lineage's events of one kind."""
    return f"""up CROSS JOIN events AS e ON e.branch = up.owner AND e.path = {where}
      AND e.type = {kind} AND e.{_LANDMARK} AND e.seq > up.low AND e.seq <= up.high"""


def _stamp(event: str) -> str:
    """Return an event's time as CrewAI writes it."""
    return f"strftime('%Y%m%dT%H%M%S', {event}.at_ns / 1000000000, 'unixepoch')"


def _name(event: str, branch: str) -> str:
    """Return the id of a checkpoint: time and seq of its event; a branch that inherits the event is named too."""
    inherited = f"iif({event}.branch = {branch}, '', printf('-%x', {branch}))"
    return f"{_stamp(event)} || printf('_%08x', {event}.seq) || {inherited}"


CONTENTS = f"""CREATE VIEW content_json AS
SELECT hash, CASE kind WHEN 'json' THEN body
  WHEN 'message' THEN (WITH RECURSIVE back (id, n) AS (
      SELECT content.id, 1
      UNION ALL SELECT link.parent, n + 1 FROM back JOIN contents AS link ON link.id = back.id
      WHERE link.parent IS NOT NULL)
    SELECT json_group_array(json(body)) FROM (
      SELECT iif(long.id IS NULL, link.body, json_set(link.body, '$.content', {TEXT_OF.format("long")})) AS body
      FROM back JOIN contents AS link ON link.id = back.id LEFT JOIN contents AS long ON long.id = link.text
      ORDER BY back.n DESC))
  ELSE json_quote({TEXT_OF.format("content")}) END AS body
FROM contents AS content"""

_UP = _lineage("b.id", "at.seq")
_KICKOFF = f"""coalesce(
    (WITH RECURSIVE {_UP}, back (id) AS (
       SELECT at.path UNION ALL
       SELECT paths.parent FROM back JOIN paths ON paths.id = back.id WHERE paths.parent > 0)
     SELECT max(x.started_seq) FROM up CROSS JOIN back CROSS JOIN executions AS x ON x.branch = up.owner
     AND x.path = back.id WHERE x.parent IS NULL AND x.started_seq > up.low AND x.started_seq <= up.high),
    (WITH RECURSIVE {_UP}
     SELECT max(x.started_seq) FROM up CROSS JOIN executions AS x ON x.branch = up.owner
     WHERE x.parent IS NULL AND x.started_seq > up.low AND x.started_seq <= up.high))"""
"""Seq of the kickoff of the root execution the cursor is in; between executions: of the last one."""

PLACES = f"""CREATE VIEW checkpoint_places AS
SELECT b.id AS branch, at.seq AS seq, {_name("at", "b.id")} AS name,
  kickoff.seq AS kickoff, kickoff.path AS path, {UUID_TEXT.format("kickoff.event_id")} AS kickoff_id,
  kickoff.payload AS kickoff_payload, definition.payload AS definition, native.body AS entity
FROM branches AS b CROSS JOIN events AS at
CROSS JOIN events AS kickoff ON kickoff.seq = {_KICKOFF}
CROSS JOIN events AS definition ON definition.seq =
  (WITH RECURSIVE {_UP} SELECT max(e.seq) FROM {_record(DEFINITION, "kickoff.path")})
CROSS JOIN contents AS native ON native.hash = json_extract(definition.payload, '$.native."$content"')"""
"""Any cursor (branch, seq) and the execution it stands in; no row where CrewAI would have nothing to restore.

Ask for one branch and seq: it is a join of all branches with all events.
"""

_UP = _lineage("p.branch", "p.seq")
_EDITS = f"(SELECT p.path AS path UNION ALL SELECT 0) AS edited CROSS JOIN {_record(EDITED, 'edited.path')}"
_OWN = "((e.payload ->> '$.execution') || '/' || json_extract(p.definition, '$.places[' || t.key || ']'))"
_GIVEN = f"(SELECT e.payload -> o.fullkey FROM json_each(e.payload, '$.outputs') AS o WHERE o.key = {_OWN})"
_OUTPUT = f"""(WITH RECURSIVE {_UP}
    SELECT fields FROM (
      SELECT e.seq AS seq, json_remove(e.payload -> '$.output.fields', '$.messages', '$.pydantic') AS fields
      FROM paths AS place CROSS JOIN {_record(COMPLETED, "place.id")}
      WHERE place.parent = p.path AND place.label = json_extract(p.definition, '$.places[' || t.key || ']')
      UNION ALL SELECT e.seq, CASE WHEN {_GIVEN} IS NOT NULL THEN json_object('description', t.value ->> 'description',
        'agent', coalesce(t.value ->> '$.agent.role', ''), 'raw', json({_GIVEN})) END
      FROM {_EDITS} WHERE {_GIVEN} IS NOT NULL
        OR EXISTS (SELECT 1 FROM json_each(e.payload, '$.reset') AS o WHERE o.value = {_OWN}))
    ORDER BY seq DESC LIMIT 1)"""
"""The output of the task ``t``: found by its place, which is the same in every process, or given by a fork."""

TASKS = f"""CREATE VIEW checkpoint_tasks AS
SELECT p.branch AS branch, p.seq AS seq, t.key AS n, t.value AS task,
  {_plain(_OUTPUT)} AS output, json_extract(p.definition, '$.contexts[' || t.key || ']') AS context
FROM checkpoint_places AS p CROSS JOIN json_each(p.entity, '$.tasks') AS t"""

_INPUTS = f"""(WITH RECURSIVE {_UP}
    SELECT json_group_object(name, json(value)) FROM (
      SELECT name, value, max(seq) FROM (
        SELECT i.key AS name, p.kickoff_payload -> i.fullkey AS value, 0 AS seq
        FROM json_each(p.kickoff_payload, '$.inputs') AS i
        UNION ALL SELECT i.key, e.payload -> i.fullkey, e.seq
        FROM {_EDITS} CROSS JOIN json_each(e.payload, '$.inputs') AS i)
      GROUP BY name))"""
"""The inputs the kickoff was given, with what forks changed."""

_TASKS = """(WITH done AS MATERIALIZED (
    SELECT n, json_set(task, '$.output', json(coalesce(output, 'null'))) AS task, context
    FROM checkpoint_tasks AS k WHERE k.branch = p.branch AND k.seq = p.seq)
  SELECT json_group_array(json(iif(context IS NULL, task, json_set(task, '$.context',
    (SELECT json_group_array(json(earlier.task)) FROM json_each(t.context) AS wanted
     JOIN done AS earlier ON earlier.n = wanted.value))))) FROM (SELECT * FROM done ORDER BY n) AS t)"""
"""The tasks of a crew, each with its output so far and with those its context names."""

CREWS = f"""CREATE VIEW checkpoint_crews AS
SELECT p.branch AS branch, p.seq AS seq, json_set(p.entity, '$.tasks', json({_TASKS}),
  '$.checkpoint_inputs', json({_plain(_INPUTS)}), '$.checkpoint_kickoff_event_id', p.kickoff_id) AS entity
FROM checkpoint_places AS p"""

_METHODS = f"""SELECT e.payload ->> '$.method_name' AS name, e.payload AS payload, count(*) AS n, max(e.seq) AS seq
      FROM paths AS place CROSS JOIN {_record(FINISHED, "place.id")} WHERE place.parent = p.path
      AND e.payload ->> '$.method_name' IS NOT NULL
      GROUP BY name ORDER BY max(e.seq)"""
FLOWS = f"""CREATE VIEW checkpoint_flows AS
SELECT p.branch AS branch, p.seq AS seq, json_patch(p.entity,
  (WITH RECURSIVE {_UP}, methods AS MATERIALIZED ({_METHODS})
    SELECT json_object('checkpoint_completed_methods', json_group_array(name),
      'checkpoint_method_counts', json_group_object(name, n),
      'checkpoint_method_outputs', json_group_array(json_object('method', name,
        'output', json({_plain("coalesce(payload -> '$.result', 'null')")}))),
      'checkpoint_state', json((SELECT {_plain("last.payload -> '$.state'")} FROM methods AS last
        ORDER BY seq DESC LIMIT 1))) FROM methods)) AS entity
FROM checkpoint_places AS p"""
"""A flow: its methods that finished, each with its last result, and the state after the last."""

_ENTITY = """CASE p.entity ->> 'entity_type'
  WHEN 'crew' THEN (SELECT entity FROM checkpoint_crews AS c WHERE c.branch = p.branch AND c.seq = p.seq)
  WHEN 'flow' THEN (SELECT entity FROM checkpoint_flows AS f WHERE f.branch = p.branch AND f.seq = p.seq)
  ELSE json_set(p.entity, '$.checkpoint_kickoff_event_id', p.kickoff_id) END"""
_NODES = f"""(WITH RECURSIVE {_UP}
  SELECT json_group_object({UUID_TEXT.format("node.event_id")}, json_object('event', json_object(
    'type', (SELECT name FROM names WHERE id = node.type), 'event_id', {UUID_TEXT.format("node.event_id")},
    'emission_sequence', node.emission, 'task_id', (SELECT name FROM names WHERE id = node.task)),
    'edges', json('{{}}')))
  FROM (SELECT max(e.seq) AS seq FROM paths AS place CROSS JOIN {_record(STARTED, "place.id")}
    WHERE place.parent = p.path GROUP BY place.id
    UNION SELECT p.seq) AS known JOIN events AS node ON node.seq = known.seq)"""
"""Where each task began, and the cursor's event: the whole record would make a row as long as the log."""

_PARENT = f"""(WITH RECURSIVE {_UP}
  SELECT earlier.name FROM up CROSS JOIN checkpoint_marks AS earlier ON earlier.branch = up.owner
    AND earlier.seq > up.low AND earlier.seq <= up.high AND earlier.seq > p.kickoff AND earlier.seq < p.seq
  ORDER BY earlier.seq DESC LIMIT 1)"""

DOCUMENTS = f"""CREATE VIEW checkpoint_documents AS
SELECT p.branch AS branch, p.seq AS seq, p.name AS name, {_PARENT} AS parent_id, json_object(
  'crewai_version', json_extract(p.definition, '$.crewai_version'), 'parent_id', {_PARENT},
  'branch', (SELECT name FROM branches WHERE id = p.branch), 'entities', json_array(json({_ENTITY})),
  'event_record', json_object('nodes', json({_NODES}))) AS document
FROM checkpoint_places AS p"""
"""What CrewAI restores from, at any cursor. Ask for one branch and seq."""

VIEW = """CREATE VIEW checkpoints AS
SELECT m.id AS rowid, m.name AS id, m.created_at AS created_at,
  iif(m.data IS NULL, (SELECT d.parent_id FROM checkpoint_documents AS d WHERE d.branch = m.branch AND d.seq = m.seq),
    m.parent_id) AS parent_id,
  coalesce(m.branch_name, (SELECT b.name FROM branches AS b WHERE b.id = m.branch)) AS branch,
  coalesce(m.data, (SELECT json_set(d.document, '$.trigger', m.trigger) FROM checkpoint_documents AS d
    WHERE d.branch = m.branch AND d.seq = m.seq)) AS data
FROM checkpoint_marks AS m
WHERE m.data IS NOT NULL OR EXISTS (SELECT 1 FROM checkpoint_places AS p WHERE p.branch = m.branch AND p.seq = m.seq)"""


def _marked(event: str, wanted: str) -> str:
    """Return the trigger that shows a checkpoint of ours."""
    return f"""CREATE TRIGGER checkpoints_are_marked_{event.lower()} AFTER {event} ON snapshots
WHEN NEW.kind = 'checkpoint' AND NEW.projection = 'run'{wanted}
BEGIN
  INSERT INTO checkpoint_marks (name, created_at, branch, seq, trigger)
    SELECT {_name("at", "NEW.branch")}, {_stamp("at")}, NEW.branch, NEW.seq, NEW.trigger
    FROM events AS at WHERE at.seq = NEW.seq ON CONFLICT DO NOTHING;
END"""


TRIGGERS = (
    _marked("INSERT", ""),
    _marked("UPDATE", " AND NEW.state <> ''"),
    """CREATE TRIGGER checkpoints_go_with_their_snapshots AFTER DELETE ON snapshots
WHEN OLD.kind = 'checkpoint' AND OLD.projection = 'run'
BEGIN DELETE FROM checkpoint_marks WHERE branch = OLD.branch AND seq = OLD.seq; END""",
)

VIEW_TRIGGERS = (
    """CREATE TRIGGER checkpoints_are_hidden INSTEAD OF DELETE ON checkpoints
BEGIN DELETE FROM checkpoint_marks WHERE id = OLD.rowid; END""",
    """CREATE TRIGGER checkpoints_are_taken INSTEAD OF INSERT ON checkpoints
BEGIN
  INSERT INTO checkpoint_marks (name, created_at, parent_id, branch_name, data)
    VALUES (NEW.id, NEW.created_at, NEW.parent_id, coalesce(NEW.branch, 'main'), json(NEW.data));
END""",
)

NAME_TAKEN = "CREATE INDEX checkpoints ON checkpoint_marks (id) WHERE data IS NOT NULL"
"""Stands in a sealed log for the view: CrewAI's own provider would make a table of that name, in clear."""

VIEWS = (CONTENTS, PLACES, TASKS, CREWS, FLOWS, DOCUMENTS, VIEW)
"""In the order in which they build on each other."""

AT_CURSOR = "SELECT json_set(document, '$.trigger', 'manual') FROM checkpoint_documents WHERE branch = ? AND seq = ?"
"""The document of any cursor: branch and seq."""
