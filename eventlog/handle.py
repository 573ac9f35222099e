"""A connection that only reads, for several threads of a process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eventlog import errors
from eventlog.place import Connection
from eventlog.transactions import translated


class Handle:
    """One statement at a time; SQLite's errors come as ours."""

    def __init__(self, file: Path, db: Connection) -> None:
        """``file``: what the messages name."""
        self.file, self.db = file, db
        self.lock = threading.RLock()
        self._closed = False

    def close(self) -> None:
        """Close the connection."""
        with self.lock:
            self._closed = True
            self.db.close()

    def query(self, sql: str, args: Sequence[Any] = ()) -> list[Any]:
        """Return all rows of a query.

        Raises:
            LogDamagedError: SQLite found the file damaged.
            LogOpenError: it cannot be read at the moment, e.g. another program holds it locked.
            LogClosedError: the log was closed.
        """
        with self.steps(sql, args) as rows:
            return list(rows)

    @contextmanager
    def steps(self, sql: str, args: Sequence[Any] = ()) -> Iterator[Iterator[Any]]:
        """Give the rows of a query one by one, for who may not want them all; raises what ``query`` does."""
        with self.lock, translated(self.file):
            if self._closed:
                raise errors.LogClosedError
            yield self.db.execute(sql, args)
