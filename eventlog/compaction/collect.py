"""Delete contents, paths and names that nothing refers to any more, while others go on writing.

What is in use is found first, through a reading connection and as slowly as it takes. Then, in short
transactions, what was written meanwhile is looked at and some of the rest is deleted. A process that
took a content for stored before that and commits an event later sees the collection
(``meta.collections``) and writes the content again (``contents.Known``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from eventlog.append import Appender
from eventlog.compaction.marking import Marking, Query
from eventlog.compaction.sweep import in_steps, unguarded
from eventlog.pipeline import Pipeline
from eventlog.read import Reader

_COLLECTIONS = "SELECT value FROM meta WHERE key = 'collections'"

_DELETE_TOMBSTONE = "DELETE FROM tombstones WHERE what = 'content' AND id = (SELECT hash FROM contents WHERE id = ?)"


def collect(pipeline: Pipeline, reader: Reader, on_page: Callable[[int], None] = lambda _: None) -> int:
    """Delete what nothing refers to; returns how many contents went."""
    candidates = {table: _ids(reader.query, table) for table in ("contents", "paths", "names")}
    marking = Marking(reader.seal)
    marking.look(reader.query, on_page)
    garbage = {
        "contents": candidates["contents"] - marking.contents,
        "paths": candidates["paths"] - marking.paths,
        "names": candidates["names"] - marking.names,
    }
    if not any(garbage.values()):
        return 0
    work = _Collecting(marking, garbage)
    in_steps(pipeline, work.step)
    return work.contents


def _ids(query: Query, table: str) -> set[int]:
    """Return all rows of a table."""
    return {row[0] for row in query(f"SELECT id FROM {table}", ())}


class _Collecting:
    """What may go, and which collection this is: another one ends it."""

    def __init__(self, marking: Marking, garbage: dict[str, set[int]]) -> None:
        """``garbage``: rows that nothing referred to when it was looked at last."""
        self._marking, self._garbage = marking, garbage
        self._number: int | None = None
        self.contents = 0

    def step(self, appender: Appender, rows: int) -> int:
        """Delete some rows, having looked at what was written since the last step."""
        db = appender.db
        with unguarded(db):
            if not self._is_mine(appender):
                return 0
            self._look_again(db)
            return next((done for table in self._garbage if (done := self._delete(db, table, rows))), 0)

    def _is_mine(self, appender: Appender) -> bool:
        """Begin, or see whether another process has begun since: ids may have been given anew."""
        if self._number is None:
            appender.begin_collection()
            self._number = appender.db.execute(_COLLECTIONS).fetchone()[0]
        return bool(appender.db.execute(_COLLECTIONS).fetchone()[0] == self._number)

    def _look_again(self, db: sqlite3.Connection) -> None:
        """Spare what was referred to meanwhile."""

        def query(sql: str, args: Sequence[Any]) -> list[Any]:
            return db.execute(sql, args).fetchall()

        self._marking.look(query)
        self._garbage["contents"] -= self._marking.contents
        self._garbage["names"] -= self._marking.names
        self._garbage["paths"] -= self._marking.paths

    def _delete(self, db: sqlite3.Connection, table: str, rows: int) -> int:
        """Delete some rows of one table."""
        waiting = self._garbage[table]
        if table != "contents":  # SQLite gives the greatest number away again, and readers remember whose it was
            waiting.discard(db.execute(f"SELECT max(id) FROM {table}").fetchone()[0])
        chosen = [(waiting.pop(),) for _ in range(min(rows, len(waiting)))]
        if table == "contents":  # recorded again, it is what its hash says
            db.executemany(_DELETE_TOMBSTONE, chosen)
        db.executemany(f"DELETE FROM {table} WHERE id = ?", chosen)
        self.contents += len(chosen) if table == "contents" else 0
        return len(chosen)
