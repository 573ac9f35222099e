"""Move the base of a branch: the one moment from which on its earlier events are gone."""

from __future__ import annotations

import sqlite3
from functools import partial
from itertools import islice

from eventlog.append import Appender
from eventlog.bases import PUT, RETAINED, read_base
from eventlog.compaction.draft import Draft
from eventlog.errors import CompactionError
from eventlog.lineage import SEQ_MAX
from eventlog.pipeline import Pipeline
from eventlog.read import Reader
from eventlog.transactions import transaction

STAGED_ROWS = 1000
"""Rows of ``retained`` written in one transaction before the base moves."""

_PUT_RETAINED = "INSERT OR REPLACE INTO retained (branch, seq, previous) VALUES (?, ?, ?)"
_DROP_RETAINED = "DELETE FROM retained WHERE branch = ? AND seq = ?"
_COUNT_RETAINED = "SELECT count(*) FROM retained WHERE branch = ? AND seq <= ?"
_MOVE = "UPDATE branches SET base_seq = ? WHERE id = ? AND base_seq = ?"
_DROP_SNAPSHOTS = "DELETE FROM snapshots WHERE branch = ? AND seq < ?"
_FAMILY = (
    "SELECT id, name, parent, coalesce(fork_seq, 0), base_seq FROM branches"
    " WHERE run = (SELECT run FROM branches WHERE id = ?)"
)
UNSWEPT = "INSERT INTO meta VALUES ('unswept', 1) ON CONFLICT DO UPDATE SET value = 1"
"""Says that rows below a base are still to be deleted."""


def stage(pipeline: Pipeline, reader: Reader, draft: Draft) -> None:
    """Write down what the new base retains of what lies above the old one; nobody looks there before it moves.

    Raises:
        CompactionError: what is written reads otherwise.
    """
    rows = ((draft.plan.row, seq, previous) for seq, previous, _ in draft.retained if seq > draft.plan.base_seq)
    while chunk := list(islice(rows, STAGED_ROWS)):
        pipeline.run_exclusively(partial(_put, rows=chunk))
    wanted = {found[0]: found for found in draft.retained}
    written = reader.query(RETAINED, (draft.plan.row, draft.plan.cut))
    if [found for found in written if found[0] in wanted] != draft.retained:
        raise CompactionError(draft.plan.run, draft.plan.branch, "what it retains reads otherwise than it was written")
    draft.obsolete = [found[0] for found in written if found[0] not in wanted]


def _put(appender: Appender, rows: list[tuple[int, int, bytes]]) -> None:
    """Write some rows of ``retained``."""
    with transaction(appender.db):
        appender.db.executemany(_PUT_RETAINED, rows)


def move_base(appender: Appender, draft: Draft) -> None:
    """Put the base in its place; all readers obey at once.

    Raises:
        CompactionError: somebody else moved it, or a fork began below it meanwhile; nothing was changed.
    """
    db, plan = appender.db, draft.plan
    with transaction(db):
        _refuse_orphans(db, draft)
        if db.execute(_MOVE, (plan.cut, plan.row, plan.base_seq)).rowcount != 1:
            raise CompactionError(plan.run, plan.branch, "another process compacted it at the same time")
        db.executemany(_DROP_RETAINED, [(plan.row, seq) for seq in draft.obsolete])
        db.execute(PUT, draft.base.row())
        db.execute(_DROP_SNAPSHOTS, (plan.row, plan.cut))
        db.execute(UNSWEPT)
        count = db.execute(_COUNT_RETAINED, (plan.row, plan.cut)).fetchone()[0]
        if read_base(db, plan.row) != draft.base or count != len(draft.retained):
            raise CompactionError(plan.run, plan.branch, "another process was compacting it at the same time")


def _refuse_orphans(db: sqlite3.Connection, draft: Draft) -> None:
    """Check that no branch reads events of this one that go: descendants get bases of their own first."""
    plan = draft.plan
    family = {row: (name, parent, fork, base) for row, name, parent, fork, base in db.execute(_FAMILY, (plan.row,))}
    for row, (name, _, _, _) in family.items():
        if row != plan.row and _reads_up_to(family, row, plan.row) < plan.cut:
            raise CompactionError(plan.run, plan.branch, f"branch {name!r} began below the cut meanwhile")


def _reads_up_to(family: dict[int, tuple[str, int | None, int, int]], row: int, ancestor: int) -> int:
    """Return up to where a branch reads the events of an ancestor; beyond all if it does not."""
    cursor, current, seen = SEQ_MAX, row, set[int]()
    while current != ancestor:
        seen.add(current)
        _, parent, fork_seq, base = family[current]
        if base or not fork_seq or parent is None or parent not in family or parent in seen:
            return SEQ_MAX
        cursor, current = min(cursor, fork_seq), parent
    return cursor
