"""Rows in the order of their key, page by page. What SQLite cannot read is told as a stretch of keys, not raised."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec

PAGE_ROWS = 500
STEPS_MAX = 300
"""So many keys are tried one by one behind a place that cannot be read, then in leaps."""


class Unreadable(msgspec.Struct, frozen=True):
    """Keys whose rows SQLite cannot read."""

    first: int
    last: int
    """The greatest key there is, if nothing behind ``first`` can be read."""
    error: str


class Table:
    """The rows of a table or of a part of it."""

    def __init__(self, db: sqlite3.Connection, columns: str, table: str, key: str, rows: int = PAGE_ROWS) -> None:
        """``key`` is the first of ``columns``, and the rowid; ``table`` may go on with further conditions."""
        self._db, self._rows = db, rows
        word = "AND" if " WHERE " in table else "WHERE"
        self._page = f"SELECT {columns} FROM {table} {word} {key} >= ? AND {key} <= ? ORDER BY {key} LIMIT ?"
        self._one = f"SELECT {columns} FROM {table} {word} {key} = ?"

    def read(self, after: int, to: int) -> Iterator[list[Any] | Unreadable]:
        """Yield rows in order, and in their place what cannot be read."""
        rows_max = self._rows
        while after < to:
            rows, error = self._try(after, to, rows_max)
            if rows:
                yield rows
                after = rows[-1][0]
            elif error is None:
                return
            elif rows_max == 1:
                first = self._edge(after, to, is_bad=False) + 1
                after = self._edge(first, to, is_bad=True)
                yield Unreadable(first, after, str(error))
            rows_max = 1 if error is not None and (rows or rows_max > 1) else self._rows

    def _try(self, after: int, to: int, rows_max: int) -> tuple[list[Any], sqlite3.Error | None]:
        """Return the rows of a page; with an error, up to where they could be read, perhaps without the last one."""
        rows: list[Any] = []
        try:
            for row in self._db.execute(self._page, (after + 1, to, rows_max)):  # > would touch the page of `after`
                if type(row[0]) is not int or row[0] <= (rows[-1][0] if rows else after):
                    raise sqlite3.DatabaseError("rows are not in the order of their key")
                rows.append(row)
        except sqlite3.Error as error:
            return rows, error
        return rows, None

    def _can_read(self, key: int) -> bool:
        """Whether the place of a key can be read, be there a row or not."""
        try:
            self._db.execute(self._one, (key,)).fetchall()
        except sqlite3.Error:
            return False
        return True

    def _edge(self, key: int, to: int, *, is_bad: bool) -> int:
        """Return the last key from ``key`` on that is as bad, or as good, as that one: in leaps, then by bisecting.

        Some of the first keys are tried one by one: what lies between two damaged pages shall not be leapt over.
        """
        low, step = key, 1
        while low + step <= to and self._can_read(low + step) is not is_bad:
            low += step
            step = step * 2 if low > key + STEPS_MAX else 1
        high = min(low + step, to + 1)
        while high - low > 1:
            middle = (low + high) // 2
            if self._can_read(middle) is not is_bad:
                low = middle
            else:
                high = middle
        return min(low, to - 1 if not is_bad else to)
