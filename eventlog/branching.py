"""The rows of branches: made at a cursor of another branch, and what of the parent still counts on them.

A branch is one row; its events, its executions and its chain of digests continue those of its parent up to
``fork_seq``. The functions here belong to the transaction under way.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator

_MAKE = "INSERT INTO branches (run, name, parent, fork_seq, created_ns) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_LAST = "SELECT seq, digest FROM events WHERE branch = ? AND seq <= ? ORDER BY seq DESC LIMIT 1"
_INHERIT = (
    "INSERT INTO executions (branch, path, parent, kind, name, key, inputs_hash, status, started_seq, ended_seq)"
    " SELECT ?, path, parent, kind, name, key, inputs_hash, ?, started_seq, ? FROM executions"
    " WHERE branch = ? AND path = ? AND started_seq <= ?"
    " ON CONFLICT (branch, path) DO UPDATE SET status = excluded.status, ended_seq = excluded.ended_seq"
)


def find_branch(db: sqlite3.Connection, run: int, name: str) -> int | None:
    """Return the row of a run's branch."""
    row = db.execute("SELECT id FROM branches WHERE run = ? AND name = ?", (run, name)).fetchone()
    return int(row[0]) if row else None


def make_branch(db: sqlite3.Connection, run: int, name: str, parent: int, fork_seq: int) -> int:
    """Return the row of a branch that begins at ``fork_seq`` of its parent, made unless it is there."""
    db.execute(_MAKE, (run, name, parent, fork_seq, time.time_ns()))
    row = db.execute("SELECT id FROM branches WHERE run = ? AND name = ?", (run, name)).fetchone()
    return int(row[0])


def ancestors(db: sqlite3.Connection, branch: int) -> Iterator[tuple[int, int]]:
    """Yield the branches a branch continues, nearest first, each with its last seq that still belongs to it.

    A branch that was forked before its parent's first event continues none.
    """
    cut, seen = 2**62, {branch}
    row = db.execute("SELECT parent, fork_seq FROM branches WHERE id = ?", (branch,)).fetchone()
    while row is not None and row[0] is not None and row[1] and row[0] not in seen:
        parent, cut = int(row[0]), min(cut, int(row[1]))
        seen.add(parent)
        yield parent, cut
        row = db.execute("SELECT parent, fork_seq FROM branches WHERE id = ?", (parent,)).fetchone()


def base_of(db: sqlite3.Connection, branch: int) -> int:
    """Return the oldest cursor of a branch: its base, or that of an ancestor; 0 when nothing was compacted."""
    owners = [branch, *(owner for owner, _ in ancestors(db, branch))]
    bases = (db.execute("SELECT base_seq FROM branches WHERE id = ?", (owner,)).fetchone()[0] for owner in owners)
    return next((int(base) for base in bases if base), 0)


def last_event(db: sqlite3.Connection, branch: int, to: int = 2**62) -> tuple[int, bytes]:
    """Return seq and digest of the last event of a branch's lineage up to ``to``; 0 and nothing when there is none."""
    found = db.execute(_LAST, (branch, to)).fetchone()
    if found is None:
        for parent, cut in ancestors(db, branch):
            found = db.execute(_LAST, (parent, min(cut, to))).fetchone()
            if found is not None:
                break
    return (int(found[0]), bytes(found[1])) if found else (0, b"")


def override_execution(db: sqlite3.Connection, branch: int, path: int, status: str, ended_seq: int | None) -> None:
    """Say on a branch how an execution stands that began on an ancestor; theirs stays as it is."""
    for parent, cut in ancestors(db, branch):
        if db.execute(_INHERIT, (branch, status, ended_seq, parent, path, cut)).rowcount:
            return
