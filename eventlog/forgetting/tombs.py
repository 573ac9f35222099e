"""Write tombstones: proofs of rows that differ from their digest on purpose. Belongs to the transaction under way."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from eventlog.chain import Chain

_EVENT = (
    "SELECT e.digest, e.event_id, type.name, e.at_ns, e.parent, e.previous, e.triggered, e.started, e.emission,"
    " task.name, task.label, agent.name, agent.label, e.path, e.flags, e.payload"
    " FROM events AS e LEFT JOIN names AS type ON type.id = e.type LEFT JOIN names AS task ON task.id = e.task"
    " LEFT JOIN names AS agent ON agent.id = e.agent WHERE e.seq = ?"
)
_PATH = (
    "WITH RECURSIVE up (id, text) AS (SELECT parent, '/' || label FROM paths WHERE id = ?"
    " UNION ALL SELECT paths.parent, '/' || paths.label || up.text FROM up JOIN paths ON paths.id = up.id)"
    " SELECT text FROM up WHERE id = 0"
)
_CONTENT = "SELECT hash, kind, body FROM contents WHERE id = ?"
_PUT = "INSERT OR REPLACE INTO tombstones (what, id, at_ns, proof) VALUES (?, ?, ?, ?)"


def bury_events(db: sqlite3.Connection, chain: Chain, seqs: Iterable[int], at_ns: int) -> None:
    """Write a tombstone for each event as it is now."""
    for seq in sorted(seqs):
        digest, *facts, path, flags, payload = db.execute(_EVENT, (seq,)).fetchone()
        where, whole = _path_text(db, path), _facts(facts)
        proof = chain.proof("tombstone", "event", seq, digest, whole, where, flags, payload.encode())
        db.execute(_PUT, ("event", seq, at_ns, proof))


def _facts(columns: list[Any]) -> tuple[Any, ...]:
    """Return facts as the chain wants them: tasks and agents as pairs."""
    *first, task, task_name, agent, role = columns
    return (*first, None if task is None else (task, task_name), None if agent is None else (agent, role))


def _path_text(db: sqlite3.Connection, path: int) -> str:
    """Return a logical path as text."""
    found = db.execute(_PATH, (path,)).fetchone() if path else None
    return str(found[0]) if found else ""


def bury_contents(db: sqlite3.Connection, chain: Chain, rows: Iterable[int], at_ns: int) -> None:
    """Write a tombstone for each content as it is now."""
    for row in rows:
        name, kind, body = db.execute(_CONTENT, (row,)).fetchone()
        db.execute(_PUT, ("content", name, at_ns, chain.proof("tombstone", "content", name, kind, body)))
