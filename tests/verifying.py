"""Looks at the file itself, through a connection of its own: what is stored, and whether it holds together."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from eventlog.append import shown_id, stored_id
from eventlog.bases import base_proof, read_base, read_retained
from eventlog.chain import Chain
from eventlog.contents import content_hash
from eventlog.pieces import join_pieces

PATHS = (
    "WITH RECURSIVE full (id, path) AS (SELECT 0, '' UNION ALL"
    " SELECT paths.id, full.path || '/' || paths.label FROM full JOIN paths ON paths.parent = full.id)"
    " SELECT id, path FROM full"
)
EVENTS = (
    "SELECT seq, branch, event_id, type, at_ns, parent, previous, triggered, started, emission,"
    " task, agent, path, flags, payload, digest FROM events ORDER BY seq"
)


def query(path: Path, sql: str) -> list[Any]:
    """Return all rows. In the process that writes the log, only after the log was closed or by another connection."""
    with closing(sqlite3.connect(path, timeout=5)) as db:
        return db.execute(sql).fetchall()


def stored_ids(path: Path) -> list[str]:
    """Return the ids of all events, in order."""
    return [str(shown_id(row[0])) for row in query(path, "SELECT event_id FROM events ORDER BY seq")]


def stored_types(path: Path) -> list[str]:
    """Return the types of all events, in order."""
    sql = "SELECT names.name FROM events JOIN names ON names.id = events.type ORDER BY seq"
    return [str(row[0]) for row in query(path, sql)]


def numbers(path: Path, *, field: str = "n") -> list[int]:
    """Return the number in the payload of each event that has one, in order."""
    sql = f"SELECT json_extract(payload, '$.{field}') FROM events ORDER BY seq"
    return [int(row[0]) for row in query(path, sql) if row[0] is not None]


def problems(path: Path) -> Iterator[str]:
    """Yield what is wrong with a file: SQLite's own check, gaps, doubles, links of the chains, contents, tombstones."""
    result = query(path, "PRAGMA integrity_check")[0][0]
    if result != "ok":
        yield f"integrity: {result}"
    rows = query(path, EVENTS)
    bases = dict(query(path, "SELECT branch, digest FROM bases"))
    if not bases and [row[0] for row in rows] != list(range(1, len(rows) + 1)):
        yield "seq has gaps"
    doubled = query(path, "SELECT count(*) FROM events GROUP BY run, event_id HAVING count(*) > 1")
    if doubled:
        yield f"{len(doubled)} events are stored twice"
    yield from _broken_links(path, rows, bases)
    yield from _broken_contents(path)
    yield from _broken_bases(path)


def tombstones(path: Path, what: str) -> dict[Any, bytes]:
    """Return the proofs of rows that differ from their digest on purpose."""
    return dict(query(path, f"SELECT id, proof FROM tombstones WHERE what = '{what}'"))


def _broken_links(path: Path, rows: list[Any], bases: dict[int, bytes]) -> Iterator[str]:
    """Compute every digest anew; of a row with a tombstone, its proof."""
    names = {row[0]: row[1:] for row in query(path, "SELECT id, name, label FROM names")}
    paths = dict(query(path, PATHS))
    heads: dict[int, dict[int, bytes]] = {}
    forks = {row[0]: row[1:] for row in query(path, "SELECT id, parent, fork_seq, base_seq FROM branches")}
    retained, buried = dict(query(path, "SELECT seq, previous FROM retained")), tombstones(path, "event")
    for seq, branch, event_id, kind, at_ns, *links, emission, task, agent, place, flags, payload, digest in rows:
        facts = (event_id, names[kind][0], at_ns, *links, emission, names.get(task), names.get(agent))
        rest = (facts, paths[place], flags, payload.encode())
        before = retained[seq] if seq in retained else _before(heads, forks, branch, seq, bases)
        if seq in buried:
            if Chain().proof("tombstone", "event", seq, digest, *rest) != buried[seq]:
                yield f"seq {seq}: it is not what its tombstone says"
        elif Chain().digest(before, seq, *rest) != digest:
            yield f"seq {seq}: its digest is not that of its content after its predecessor"
        heads.setdefault(branch, {})[seq] = digest


def _before(
    heads: dict[int, dict[int, bytes]], forks: dict[int, Any], branch: int | None, seq: int, bases: dict[int, bytes]
) -> bytes:
    """Return the digest of the last event of a lineage before a seq; a branch continues its parent up to the fork."""
    before = seq - 1
    while branch is not None:
        parent, fork_seq, base_seq = forks[branch]
        own = heads.get(branch, {})
        if last := max((s for s in own if base_seq < s <= before), default=0):
            return own[last]
        if base_seq:
            return bases[branch]
        branch, before = parent, min(before, fork_seq or 0)
    return b""


CONTENTS = (
    "SELECT c.hash, c.kind, c.body, up.hash, long.hash FROM contents AS c"
    " LEFT JOIN contents AS up ON up.id = c.parent LEFT JOIN contents AS long ON long.id = c.text"
)


def _broken_contents(path: Path) -> Iterator[str]:
    """Compute the hash of every content anew; of one with a tombstone, its proof."""
    buried, rows = tombstones(path, "content"), query(path, CONTENTS)
    bodies = {name: (kind, body) for name, kind, body, _, _ in rows}

    def text_of(name: str) -> str:
        kind, body = bodies[name]
        return join_pieces(json.loads(body), text_of) if kind == "pieces" else str(body)

    for name, kind, body, parent, text in rows:
        if name in buried:
            if Chain().proof("tombstone", "content", name, kind, body) != buried[name]:
                yield f"content {name} is not what its tombstone says"
            continue
        data = text_of(name) if kind == "pieces" else body
        if content_hash("text" if kind == "pieces" else kind, data.encode(), parent, text) != name:
            yield f"content {name} is not what its hash says"


def _broken_bases(path: Path) -> Iterator[str]:
    """Compute the proof of every base anew."""
    with closing(sqlite3.connect(path, timeout=5)) as db:
        for (branch,) in db.execute("SELECT branch FROM bases").fetchall():
            base = read_base(db, branch)
            if base is not None and base_proof(Chain(), base, read_retained(db, base)) != base.proof:
                yield f"the base of branch {branch} is not what its proof says"


def missing(witnessed: list[str], path: Path) -> list[str]:
    """Return the witnessed ids the log does not hold."""
    there = {stored_id(event_id) for event_id in stored_ids(path)}
    return [event_id for event_id in witnessed if stored_id(event_id) not in there]
