"""The view ``event_json``, and SQL that every view of ours uses. Built-in functions only (``trusted_schema=OFF``)."""

from __future__ import annotations

UUID_TEXT = (
    "CASE typeof({0}) WHEN 'blob' THEN lower(substr(hex({0}),1,8)||'-'||substr(hex({0}),9,4)||'-'||"
    "substr(hex({0}),13,4)||'-'||substr(hex({0}),17,4)||'-'||substr(hex({0}),21)) ELSE {0} END"
)
"""A stored event id as text."""

TEXT_OF = """CASE {0}.kind WHEN 'text' THEN {0}.body ELSE (
  SELECT group_concat(CASE piece.type WHEN 'object'
    THEN substr(known.body, 1, coalesce(json_extract(piece.value, '$.first'), length(known.body)))
    ELSE piece.value END, '')
  FROM json_each({0}.body) AS piece
  LEFT JOIN contents AS known
    ON known.hash = CASE piece.type WHEN 'object' THEN json_extract(piece.value, '$."$content"') END)
END"""
"""A text, also when it is stored in pieces."""

EVENT_JSON = f"""CREATE VIEW event_json AS
SELECT e.seq AS seq,
  {UUID_TEXT.format("e.event_id")} AS event_id,
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
                        json_set(contents.body, '$.content', {TEXT_OF.format("text")})) AS body
                      FROM back JOIN contents ON contents.id = back.id
                      LEFT JOIN contents AS text ON text.id = contents.text
                      ORDER BY back.n DESC))))
           ELSE json_quote({TEXT_OF.format("content")})
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
