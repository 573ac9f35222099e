"""Delete the rows below the bases, in transactions so short that an append hardly waits.

Any process may do it, in any order, and stop at any point: what is to go follows from ``branches.base_seq`` and
``retained`` alone.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from eventlog.append import Appender
from eventlog.pipeline import Pipeline
from eventlog.transactions import transaction

STEP_S = 0.01
"""How long one transaction may take; the next one takes as many rows as fit."""
ROWS_MIN, ROWS_MAX = 8, 5000
PAUSE_S = 0.002
"""Between two transactions, in which appends come through."""

_COMPACTED = "SELECT id, base_seq FROM branches WHERE base_seq > 0"
_NEXT = (
    "SELECT seq FROM events WHERE branch = ? AND seq > ? AND seq <= ?"
    " AND NOT EXISTS (SELECT 1 FROM retained WHERE retained.seq = events.seq) ORDER BY seq LIMIT ?"
)
_UNSWEPT = "SELECT value FROM meta WHERE key = 'unswept'"

T = TypeVar("T")
Step = Callable[[Appender, int], int]
"""Does at most so many rows in one transaction; returns how many it did."""


@contextmanager
def unguarded(db: sqlite3.Connection) -> Generator[None]:
    """Delete or change in one transaction what the triggers protect."""
    with transaction(db):
        db.execute("UPDATE meta SET value = 1 WHERE key = 'compacting'")
        yield
        db.execute("UPDATE meta SET value = 0 WHERE key = 'compacting'")


def in_steps(pipeline: Pipeline, step: Step, on_step: Callable[[int], None] = lambda _: None) -> int:
    """Repeat a step until it has nothing to do; returns how many rows it did."""
    rows, done = 200, 0
    while True:
        count: int
        took_s: float
        count, took_s = pipeline.run_exclusively(partial(_timed, step=step, rows=rows))
        done += count
        on_step(count)
        if count == 0:
            return done
        rows = min(max(int(rows * min(STEP_S / max(took_s, 1e-6), 2)), ROWS_MIN), ROWS_MAX)
        time.sleep(PAUSE_S)


def _timed(appender: Appender, step: Step, rows: int) -> tuple[int, float]:
    """Return how many rows a step did, and in what time."""
    start = time.perf_counter()
    return step(appender, rows), time.perf_counter() - start


def is_unswept(db: sqlite3.Connection) -> bool:
    """Whether a compaction was interrupted between moving a base and deleting what lies below."""
    row = db.execute(_UNSWEPT).fetchone()
    return bool(row is not None and row[0])


def sweep(pipeline: Pipeline, on_step: Callable[[int], None] = lambda _: None) -> int:
    """Delete what lies below the bases and is not retained; returns how many events went."""
    work = _Sweep()
    return in_steps(pipeline, work.step, on_step)


class _Sweep:
    """Remembers how far it came: what is retained is passed once."""

    def __init__(self) -> None:
        """Begin."""
        self._reached: dict[int, int] = {}

    def step(self, appender: Appender, rows: int) -> int:
        """Delete some events."""
        db = appender.db
        with unguarded(db):
            for branch, base in db.execute(_COMPACTED).fetchall():
                found = db.execute(_NEXT, (branch, self._reached.get(branch, 0), base, rows)).fetchall()
                if found:
                    db.executemany("DELETE FROM events WHERE seq = ?", found)
                    self._reached[branch] = found[-1][0]
                    return len(found)
                self._reached[branch] = base
        return 0
