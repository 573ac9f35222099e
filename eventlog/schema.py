"""The tables of a log, and how a file gets them.

::

    runs 1─n branches 1─n events n─1 names   (type, task, agent: interned)
      │         │            └──── n─1 paths   (a tree of labels)
      │         ├─n executions               (index of kickoffs, derived from events)
      │         └─n snapshots                (stored states; delete them all and no answer changes)
      └ run 0, branch 0: events of no run
    contents                                  (large values, by hash; see contents.py)
    meta                                      (format facts; last_seq: no event at or below it is ever made again)

``seq`` is ``max(meta.last_seq, max(events.seq)) + 1``, taken inside the writing transaction:
a trigger raises ``meta.last_seq`` on deletion, so a number is never used twice and the common
append does not touch ``meta``.
"""

from __future__ import annotations

import sqlite3
from functools import cache
from typing import Any

FORMAT = 1
"""``PRAGMA user_version`` of files this version writes."""
APPLICATION_ID = 0x45564C47
"""``PRAGMA application_id``: "EVLG"."""

_TABLES = (
    """CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value ANY
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE names (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,   -- type | task | agent
  name TEXT NOT NULL,   -- event type, task id, agent id
  label TEXT NOT NULL,  -- class of the event, name of the task, role of the agent
  UNIQUE (kind, name, label)
) STRICT""",
    """CREATE TABLE paths (
  id INTEGER PRIMARY KEY,
  parent INTEGER NOT NULL,  -- 0 at the root
  label TEXT NOT NULL,
  UNIQUE (parent, label)
) STRICT""",
    """CREATE TABLE runs (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  created_ns INTEGER NOT NULL,
  attribution TEXT NOT NULL,  -- named | minted | guessed
  owner TEXT,                 -- JSON: host, boot, pid, started of the process that has it open
  epoch INTEGER NOT NULL DEFAULT 0,
  lease_until_ns INTEGER
) STRICT""",
    """CREATE TABLE branches (
  id INTEGER PRIMARY KEY,
  run INTEGER NOT NULL REFERENCES runs (id),
  name TEXT NOT NULL,
  parent INTEGER REFERENCES branches (id),
  fork_seq INTEGER,                     -- cursor on the parent, inclusive
  base_seq INTEGER NOT NULL DEFAULT 0,  -- events at or below were compacted
  created_ns INTEGER NOT NULL,
  UNIQUE (run, name)
) STRICT""",
    """CREATE TABLE executions (
  branch INTEGER NOT NULL REFERENCES branches (id),
  path INTEGER NOT NULL REFERENCES paths (id),
  parent INTEGER REFERENCES paths (id),
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  key TEXT NOT NULL,
  inputs_hash TEXT NOT NULL,
  status TEXT NOT NULL,
  started_seq INTEGER NOT NULL,
  ended_seq INTEGER,
  PRIMARY KEY (branch, path)
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE contents (
  id INTEGER PRIMARY KEY,
  hash TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL,  -- text | pieces | json | message
  parent INTEGER,      -- the message before this one
  text INTEGER,        -- the long "content" of a message, left out of its body
  body TEXT NOT NULL
) STRICT""",
    """CREATE TABLE events (
  seq INTEGER PRIMARY KEY,
  branch INTEGER NOT NULL REFERENCES branches (id),
  run INTEGER NOT NULL,
  event_id ANY NOT NULL,  -- a UUID as 16 bytes, any other id as text
  type INTEGER NOT NULL,
  at_ns INTEGER NOT NULL,
  parent ANY,             -- links: the seq, or the raw event id when that event is not in the log
  previous ANY,
  triggered ANY,
  started ANY,
  emission INTEGER,
  task INTEGER,
  agent INTEGER,
  path INTEGER NOT NULL,
  flags INTEGER NOT NULL,
  payload TEXT NOT NULL,
  digest BLOB NOT NULL,
  UNIQUE (run, event_id)
) STRICT""",
    "CREATE INDEX events_by_branch ON events (branch)",
    """CREATE TABLE snapshots (
  id INTEGER PRIMARY KEY,
  branch INTEGER NOT NULL REFERENCES branches (id),
  seq INTEGER NOT NULL,
  kind TEXT NOT NULL,        -- checkpoint | cache
  projection TEXT NOT NULL,
  version INTEGER NOT NULL,  -- fold version; another one is folded anew
  trigger TEXT NOT NULL,     -- event type that asked for it, or 'manual'
  created_ns INTEGER NOT NULL,
  state TEXT NOT NULL,
  UNIQUE (branch, projection, seq, kind)
) STRICT""",
)

_TRIGGERS = (
    """CREATE TRIGGER events_never_change BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END""",
    """CREATE TRIGGER events_never_vanish BEFORE DELETE ON events
WHEN (SELECT value FROM meta WHERE key = 'compacting') IS NOT 1
BEGIN SELECT RAISE(ABORT, 'events are append-only; use eventlog compact'); END""",
    """CREATE TRIGGER events_seq_is_never_reused AFTER DELETE ON events
BEGIN UPDATE meta SET value = max(value, OLD.seq) WHERE key = 'last_seq'; END""",
    """CREATE TRIGGER events_are_never_replaced BEFORE INSERT ON events
WHEN EXISTS (SELECT 1 FROM events WHERE seq = NEW.seq)
  OR EXISTS (SELECT 1 FROM events WHERE run = NEW.run AND event_id = NEW.event_id)
BEGIN SELECT RAISE(ABORT, 'event exists'); END""",
    """CREATE TRIGGER contents_never_change BEFORE UPDATE ON contents
BEGIN SELECT RAISE(ABORT, 'contents are immutable'); END""",
)

_UUID_TEXT = (
    "CASE typeof({0}) WHEN 'blob' THEN lower(substr(hex({0}),1,8)||'-'||substr(hex({0}),9,4)||'-'||"
    "substr(hex({0}),13,4)||'-'||substr(hex({0}),17,4)||'-'||substr(hex({0}),21)) ELSE {0} END"
)

_TEXT_OF = """CASE {0}.kind WHEN 'text' THEN {0}.body ELSE (
  SELECT group_concat(CASE piece.type WHEN 'object'
    THEN substr(known.body, 1, coalesce(json_extract(piece.value, '$.first'), length(known.body)))
    ELSE piece.value END, '')
  FROM json_each({0}.body) AS piece
  LEFT JOIN contents AS known
    ON known.hash = CASE piece.type WHEN 'object' THEN json_extract(piece.value, '$."$content"') END)
END"""
"""A text, also when it is stored in pieces."""

_VIEW = f"""CREATE VIEW event_json AS
SELECT e.seq AS seq,
  {_UUID_TEXT.format("e.event_id")} AS event_id,
  type.name AS type,
  strftime('%Y-%m-%dT%H:%M:%f', e.at_ns / 1000000000.0, 'unixepoch') || 'Z' AS at,
  nullif(run.name, '') AS run,
  branch.name AS branch,
  task.label AS task,
  agent.label AS agent,
  (WITH RECURSIVE up (id, text) AS (
     SELECT paths.parent, '/' || paths.label FROM paths WHERE paths.id = e.path
     UNION ALL SELECT paths.parent, '/' || paths.label || up.text FROM up JOIN paths ON paths.id = up.id)
   SELECT text FROM up WHERE id = 0) AS path,
  (WITH RECURSIVE
     refs (n, path, body) AS (
       SELECT row_number() OVER (), tree.path,
         CASE content.kind
           WHEN 'json' THEN content.body
           WHEN 'message' THEN (WITH RECURSIVE back (id, n) AS (
                   SELECT content.id, 1
                   UNION ALL SELECT contents.parent, n + 1 FROM back JOIN contents ON contents.id = back.id
                   WHERE contents.parent IS NOT NULL AND n < 20)
                 SELECT json_object('messages', tree.n, 'last',
                   (SELECT json_group_array(json(body)) FROM
                     (SELECT iif(text.id IS NULL, contents.body,
                        json_set(contents.body, '$.content', {_TEXT_OF.format("text")})) AS body
                      FROM back JOIN contents ON contents.id = back.id
                      LEFT JOIN contents AS text ON text.id = contents.text
                      ORDER BY back.n DESC))))
           ELSE json_quote({_TEXT_OF.format("content")})
         END
       FROM (SELECT json_tree.path AS path, json_tree.value AS value,
               json_extract(e.payload, json_tree.path || '.n') AS n
             FROM json_tree(e.payload) WHERE json_tree.key = '$content') AS tree
       JOIN contents AS content ON content.hash = tree.value),
     filled (n, payload) AS (
       SELECT 0, e.payload
       UNION ALL
       SELECT refs.n, json_set(filled.payload, refs.path, json(refs.body))
       FROM filled JOIN refs ON refs.n = filled.n + 1)
   SELECT payload FROM filled ORDER BY n DESC LIMIT 1) AS payload
FROM events AS e
JOIN names AS type ON type.id = e.type
JOIN branches AS branch ON branch.id = e.branch
JOIN runs AS run ON run.id = e.run
LEFT JOIN names AS task ON task.id = e.task
LEFT JOIN names AS agent ON agent.id = e.agent"""

STATEMENTS = (
    *_TABLES,
    *_TRIGGERS,
    _VIEW,
    "INSERT INTO meta VALUES ('last_seq', 0), ('compacting', 0)",
    "INSERT INTO runs (id, name, created_ns, attribution) VALUES (0, '', 0, 'named')",
    "INSERT INTO branches (id, run, name, created_ns) VALUES (0, 0, 'main', 0)",
)
"""Everything a new file gets."""


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file behind ``connection`` to ``FORMAT``; the caller holds the write lock and commits.

    sqlite-utils keeps the record of what was applied in the same transaction.
    """
    from sqlite_utils import Database  # noqa: PLC0415 - only files that need work pay for the import
    from sqlite_utils.migrations import Migrations  # noqa: PLC0415

    migrations = Migrations("eventlog")

    @migrations(name="1_first_format")
    def _first_format(db: Any) -> None:
        for statement in STATEMENTS:
            db.conn.execute(statement)

    migrations.apply(Database(connection, execute_plugins=False))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")


@cache
def expected_objects() -> dict[str, str]:
    """Return name → SQL of every table, index, trigger and view of a file of ours."""
    db = sqlite3.connect(":memory:")
    try:
        for statement in STATEMENTS:
            db.execute(statement)
        return stored_objects(db)
    finally:
        db.close()


def stored_objects(connection: sqlite3.Connection) -> dict[str, str]:
    """Return name → SQL of what a file has; SQLite's and sqlite-utils' own tables left out."""
    rows = connection.execute(
        "SELECT type || ' ' || name, sql FROM sqlite_master WHERE sql IS NOT NULL"
        " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        " AND NOT (tbl_name = '_sqlite_migrations' AND type IN ('table', 'index'))"
    )
    return dict(rows)
