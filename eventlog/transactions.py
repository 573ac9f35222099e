"""Transactions on a connection, how long to wait for other programs, and what SQLite's complaints mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from eventlog import errors

BUSY_S = 5.0
"""How long a statement waits for another process's lock."""


class transaction:  # noqa: N801 - a generator would take three times as long, and every event has one
    """Commit all of the block, or none of it.

    ``IMMEDIATE`` takes the write lock up front: a deferred transaction that reads first can
    fail to upgrade later, and no busy timeout helps then.
    """

    __slots__ = ("_db",)

    def __init__(self, db: sqlite3.Connection) -> None:
        """``db``: a connection that may write."""
        self._db = db

    def __enter__(self) -> None:
        """Begin."""
        db = self._db
        _roll_back(db)  # a signal handler may have raised while an interrupted transaction was being rolled back
        try:
            db.execute("BEGIN IMMEDIATE")
        except BaseException:  # a signal handler may raise as soon as it has begun
            _roll_back(db)
            raise

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Commit, or roll back what raised; a KeyboardInterrupt must not commit half a batch."""
        try:
            if kind is None:
                self._db.execute("COMMIT")
        except BaseException:
            _roll_back(self._db)
            raise
        if kind is not None:
            _roll_back(self._db)


def _roll_back(db: sqlite3.Connection) -> None:
    """Undo; SQLite may already have done so by itself."""
    if db.in_transaction:
        db.execute("ROLLBACK")


@contextmanager
def one_moment(db: sqlite3.Connection) -> Generator[None]:
    """Read all of the block at one moment of the file; inside a transaction, that is so anyway."""
    if db.in_transaction:
        yield
        return
    try:
        db.execute("BEGIN")
        yield
    finally:
        _roll_back(db)


@contextmanager
def impatient(db: sqlite3.Connection, busy_ms: int) -> Generator[None]:
    """Wait less for other programs' locks inside the block: what happens there can be done again later."""
    db.execute(f"PRAGMA busy_timeout = {busy_ms}")
    try:
        yield
    finally:
        db.execute(f"PRAGMA busy_timeout = {int(BUSY_S * 1000)}")


@contextmanager
def translated(path: Path) -> Generator[None]:
    """Turn what SQLite and the system say into our errors."""
    try:
        yield
    except sqlite3.DatabaseError as e:
        text = str(e)
        if "not a database" in text:
            raise errors.NotAnEventLogError(str(path), "not an SQLite database") from e
        if "malformed" in text or "corrupt" in text or "decode to UTF-8" in text:
            raise errors.LogDamagedError(str(path), text) from e
        if any(word in text for word in ("readonly", "read-only", "full", "disk I/O", "unable to open")):
            raise errors.LogUnwritableError(str(path), text) from e
        raise errors.LogOpenError(str(path), text) from e
    except UnicodeDecodeError as e:  # SQLite quotes what it cannot read
        raise errors.LogDamagedError(str(path), "its schema cannot be read") from e
    except OSError as e:
        raise errors.LogUnwritableError(str(path), e.strerror or str(e)) from e
