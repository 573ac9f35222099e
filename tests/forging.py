"""Digests and proofs computed anew, as somebody would who changes a log and wants to hide it."""

from __future__ import annotations

import sqlite3
from contextlib import suppress

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


def rechain(db: sqlite3.Connection, chain: Chain) -> None:
    """Compute the digests of all events, as far as they can be computed."""
    interned, heads = Interned(db), dict[int, bytes]()
    for found in db.execute(f"SELECT {COLUMNS} FROM events ORDER BY seq").fetchall():
        row = Row._make(found)
        fork = None if row.branch in heads else db.execute(_AT_FORK, (row.branch,)).fetchone()
        previous = fork[0] if fork else heads.get(row.branch, b"")
        with suppress(BrokenRowError):
            heads[row.branch] = digest_after(chain, previous, row, facts_of(row, interned))
            db.execute("UPDATE events SET digest = ? WHERE seq = ?", (heads[row.branch], row.seq))


def prove_states(db: sqlite3.Connection, chain: Chain) -> None:
    """Compute the proofs of all stored states."""
    for row, *facts in db.execute(_STATES).fetchall():
        db.execute("UPDATE snapshots SET proof = ? WHERE id = ?", (chain.snapshot_proof(*facts), row))


def excuse_contents(db: sqlite3.Connection, chain: Chain) -> None:
    """Say of all contents that they were changed on purpose."""
    for name, kind, body in db.execute("SELECT hash, kind, body FROM contents").fetchall():
        proof = chain.proof("tombstone", "content", name, kind, body)
        db.execute("INSERT OR REPLACE INTO tombstones VALUES ('content', ?, 1, ?)", (name, proof))
