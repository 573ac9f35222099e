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
        self._page = f"SELECT {columns} FROM {table} {word} {key} > ? AND {key} <= ? ORDER BY {key} LIMIT ?"
        self._one = f"SELECT {columns} FROM {table} {word} {key} = ?"

    def read(self, after: int, to: int) -> Iterator[list[Any] | Unreadable]:
        """Yield rows in order, and in their place what cannot be read."""
        while after < to:
            rows, error = self._try(after, to)
            if rows:
                yield rows
                after = rows[-1][0]
            elif error is None:
                return
            if error is not None:
                bad = yield from self._step(after, to, error)
                after = bad

    def _try(self, after: int, to: int) -> tuple[list[Any], sqlite3.Error | None]:
        """Return the rows of a page up to where they can be read."""
        rows: list[Any] = []
        try:
            for row in self._db.execute(self._page, (after, to, self._rows)):
                if type(row[0]) is not int or row[0] <= (rows[-1][0] if rows else after):
                    raise sqlite3.DatabaseError("rows are not in the order of their key")
                rows.append(row)
        except sqlite3.Error as error:
            return rows, error
        return rows, None

    def _step(self, after: int, to: int, error: sqlite3.Error) -> Iterator[list[Any] | Unreadable]:
        """Go on key by key: the last good row may have been lost with the bad one; returns up to where it came."""
        key = after + 1
        while (found := self._probe(key)) is not None and key < min(to, after + STEPS_MAX):
            if found:
                yield found
            key += 1
        if found is not None:
            return key  # type: ignore[return-value]
        last = self._end_of_bad(key, to)
        yield Unreadable(key, last, str(error))
        return last  # type: ignore[return-value]

    def _probe(self, key: int) -> list[Any] | None:
        """Return the row of one key in a list, none in an empty one; ``None`` when that cannot be read."""
        try:
            return self._db.execute(self._one, (key,)).fetchall()
        except sqlite3.Error:
            return None

    def _end_of_bad(self, key: int, to: int) -> int:
        """Return the last key of a stretch that cannot be read: step by step, then in leaps, then by bisecting."""
        low = key
        while low < min(to, key + STEPS_MAX):
            if self._probe(low + 1) is not None:
                return low
            low += 1
        step = 2
        while low + step < to and self._probe(low + step) is None:
            low, step = low + step, step * 2
        high = min(low + step, to + 1)
        while high - low > 1:
            middle = (low + high) // 2
            if self._probe(middle) is None:
                low = middle
            else:
                high = middle
        return low
