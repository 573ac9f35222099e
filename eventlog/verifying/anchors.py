"""What the first event of a branch chains to."""

from __future__ import annotations

import sqlite3
from typing import Any

from eventlog.verifying.subject import Subject

_LAST = "SELECT digest FROM events WHERE branch = ? AND seq > ? AND seq <= ? ORDER BY seq DESC LIMIT 1"
_BASE = "SELECT digest FROM bases WHERE branch = ?"


class Anchors:
    """Finds the digest before the first event of a branch."""

    def __init__(self, subject: Subject) -> None:
        """``subject``: the log under check."""
        self._subject = subject

    def of(self, branch: int) -> Any:
        """Return the digest a branch begins after; none of its own if it is the first; ``None`` if it cannot be read.

        With a base it begins there; else after the event of its ancestors at which it was forked.
        """
        cut, current, seen = 2**62, self._subject.branches.get(branch), set[int]()
        while current is not None and current.row not in seen:
            seen.add(current.row)
            if current.row != branch and (row := self._one(_LAST, current.row, current.base, cut)):
                return row[0]
            if current.base:
                return (self._one(_BASE, current.row) or (None,))[0]
            if current.parent is None or not current.fork:
                return b""
            cut, current = min(cut, current.fork), self._subject.branches.get(current.parent)
        return None

    def _one(self, sql: str, *args: int) -> Any:
        """Return a row; none when there is none or it cannot be read."""
        try:
            return self._subject.db.execute(sql, args).fetchone()
        except sqlite3.Error:
            return None
