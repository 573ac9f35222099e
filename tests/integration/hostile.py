"""Files that somebody made to do harm: a real log, then changed by whoever may write any byte of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import eventlog
from eventlog.chain import Chain
from eventlog.digests import COLUMNS, BrokenRowError, Interned, Row, digest_after, facts_of

_AT_FORK = (
    "SELECT digest FROM events AS e JOIN branches AS b ON e.branch = b.parent AND e.seq <= b.fork_seq"
    " WHERE b.id = ? ORDER BY e.seq DESC LIMIT 1"
)
_STATES = (
    "SELECT s.id, e.digest, s.seq, projection, version, state FROM snapshots AS s JOIN events AS e ON e.seq = s.seq"
    " WHERE state <> ''"
)


def make_log(path: Path, payloads: Iterable[dict[str, Any]] = ({"text": "harmless"},), run: str = "r") -> Path:
    """Make a log with an event for each payload."""
    with eventlog.open(path, snapshot_on=()) as log:
        for payload in payloads:
            log.append("a.note", payload, run=run)
    return path


def tamper(path: Path, *statements: str | tuple[str, tuple[Any, ...]]) -> Path:
    """Change a log as its triggers forbid it; a statement may come with its values.

    The chain has no key: whoever changes a log can forge its digests, and nobody can tell from them.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN")
        db.execute("UPDATE meta SET value = 1 WHERE key = 'compacting'")
        for statement in statements:
            sql, args = statement if isinstance(statement, tuple) else (statement, ())
            db.execute(sql, args)
        forge(db)
        db.execute("UPDATE meta SET value = 0 WHERE key = 'compacting'")
        db.execute("COMMIT")
    return path


def forge(db: sqlite3.Connection) -> None:
    """Compute digests and proofs anew, as far as they can be computed; contents are said to be changed on purpose."""
    chain, interned, heads = Chain(), Interned(db), dict[int, bytes]()
    for found in db.execute(f"SELECT {COLUMNS} FROM events ORDER BY seq").fetchall():
        row = Row._make(found)
        fork = None if row.branch in heads else db.execute(_AT_FORK, (row.branch,)).fetchone()
        previous = fork[0] if fork else heads.get(row.branch, b"")
        with suppress(BrokenRowError):
            heads[row.branch] = digest_after(chain, previous, row, facts_of(row, interned))
            db.execute("UPDATE events SET digest = ? WHERE seq = ?", (heads[row.branch], row.seq))
    for name, kind, body in db.execute("SELECT hash, kind, body FROM contents").fetchall():
        proof = chain.proof("tombstone", "content", name, kind, body)
        db.execute("INSERT OR REPLACE INTO tombstones VALUES ('content', ?, 1, ?)", (name, proof))
    for snapshot, *facts in db.execute(_STATES).fetchall():
        db.execute("UPDATE snapshots SET proof = ? WHERE id = ?", (chain.snapshot_proof(*facts), snapshot))


def put_payload(path: Path, payload: str, seq: int = 1) -> Path:
    """Let an event have any text for a payload."""
    return tamper(path, ("UPDATE events SET payload = ? WHERE seq = ?", (payload, seq)))


def put_content(path: Path, name: str, kind: str, body: str, parent: str | None = None) -> Path:
    """Put anything among the contents."""
    sql = "INSERT INTO contents (hash, kind, parent, body) VALUES (?, ?, (SELECT id FROM contents WHERE hash = ?), ?)"
    return tamper(path, (sql, (name, kind, parent, body)))
