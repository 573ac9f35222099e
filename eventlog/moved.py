"""A log whose file was deleted, moved away or replaced while it was open: go on where its path leads to.

*Deleted or moved away*: everything is still in the file that the connection has open, so the log is put back, whole,
as a copy at its path. Nothing is lost, and nothing that was recorded before has to be missed by what comes after.

*Replaced by another log* (a backup was restored, another process was quicker): that one is the log now. What only the
former one held is a gap on record. A file that is no log is left alone: events wait until the path leads to a log.

The WAL beside the path belongs to the former file and must not be read into the next: it is emptied into the former
one, which so becomes whole wherever it is now, and taken away.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

from eventlog import place
from eventlog.errors import LogMovedError, NotAnEventLogError
from eventlog.ids import stored_id
from eventlog.logger import Logger
from eventlog.place import Connection
from eventlog.record import NewEvent
from eventlog.schema import APPLICATION_ID
from eventlog.transactions import impatient, translated

EMPTY_MS = 500
"""How long emptying the former WAL may wait for readers of it."""
REST_FACTOR, REST_S_MIN = 10, 0.05
"""After a copy that failed, the next one waits ten times as long as it took."""

_COUNT = (
    "SELECT count(*) FROM events AS e JOIN branches AS b ON b.id = e.branch JOIN runs AS r ON r.id = b.run"
    " WHERE r.name = ? AND b.name = ?"
)
_IS_THERE = "SELECT 1 FROM events AS e JOIN runs AS r ON r.id = e.run WHERE r.name = ? AND e.event_id = ?"
WRITTEN_MAX = 10_000
"""More events are not written between two looks at the path."""

log = Logger(__name__)


def moved_error(db: Connection) -> LogMovedError | None:
    """Return what to say of a connection whose path leads elsewhere; ``None`` while it leads to its file."""
    if not place.has_moved(db):
        return None
    what = "replaced by another file" if Path(db.path).exists() else "deleted or moved away"
    return LogMovedError(db.path, f"it was {what} while it was open")


def without_wal(db: Connection) -> str | None:
    """Return what to say when only the WAL of a log vanished; what is in it was written into the file then.

    To begin another one would be worse: two WALs of one file overwrite each other's pages.
    """
    if db.wal is None or place.file_id(f"{os.path.realpath(db.path)}-wal") == db.wal:
        return None
    with suppress(sqlite3.Error), impatient(db, EMPTY_MS):
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    return f"{db.path}-wal was deleted while it was open: end all programs that use the log, then start them again"


class Follower:
    """Finds the file again; one per pipeline."""

    def __init__(self) -> None:
        """Nothing was tried yet."""
        self._not_before = 0.0
        self._failed: Exception | None = None

    def follow(self, db: Connection, connect: Callable[[], Connection]) -> Connection:
        """Return a connection to the log at the path of ``db``, put back there if nothing is.

        Raises:
            LogOpenError: what is there is no log, or it could not be put back.
        """
        began = time.monotonic()
        if began < self._not_before and self._failed is not None:
            raise self._failed.with_traceback(None)
        path = Path(os.path.realpath(db.path))
        try:
            with translated(path), place.alone_in(path.parent):
                if path.exists():
                    _part(db, path)
                else:
                    _put_back(db, path)
            return connect()
        except Exception as error:
            self._failed = error
            self._not_before = time.monotonic() + max(REST_S_MIN, REST_FACTOR * (time.monotonic() - began))
            raise


def _part(db: Connection, path: Path) -> None:
    """Take the former WAL away from a log that stands at its path now.

    Raises:
        NotAnEventLogError: what stands there is no log; then nothing was touched.
    """
    if db.wal is None or place.file_id(f"{path}-wal") != db.wal:
        return  # gone, or it belongs to that log
    with path.open("rb") as file:
        head = file.read(100)
    if head[:16] != b"SQLite format 3\0" or int.from_bytes(head[68:72], "big") != APPLICATION_ID:
        raise NotAnEventLogError(str(path), "a file that is no event log stands in its place")
    _finish(db)
    db.file = place.NOWHERE  # without its WAL this connection must not go on, even if its file comes back
    place.part_neighbours(path)


def _put_back(db: Connection, path: Path) -> None:
    """Make a copy of what a connection has open the file at ``path``; one that is there by now stays."""
    made = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        os.close(os.open(made, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600))
        with closing(sqlite3.connect(made)) as copy:
            db.backup(copy)
        _finish(db)
        db.file = place.NOWHERE
        place.part_neighbours(path)
        with suppress(FileExistsError):
            os.link(made, path)
    finally:
        for suffix in ("", *place.NEIGHBOURS):
            made.with_name(made.name + suffix).unlink(missing_ok=True)
    log.warning("log_put_back", path=str(path))


def _finish(db: Connection) -> None:
    """Write what the WAL holds into the file it belongs to: so that is whole, wherever it is now."""
    with suppress(sqlite3.Error), impatient(db, EMPTY_MS):
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def left_behind(former: Connection, db: Connection, waiting: Sequence[NewEvent]) -> dict[tuple[str, str], int]:
    """Return how many events only the former file holds, of each branch that has events ``waiting`` to be written."""
    lost: dict[tuple[str, str], int] = {}
    for key in {(event.run, event.branch) for event in waiting}:
        lost[key] = _count(former, key) - _count(db, key)
    for event in waiting[:WRITTEN_MAX]:  # what was written last comes again
        is_there = former.execute(_IS_THERE, (event.run, stored_id(event.event_id))).fetchone()
        lost[event.run, event.branch] -= 1 if is_there else 0
    return {key: count for key, count in lost.items() if count > 0}


def _count(db: Connection, key: tuple[str, str]) -> int:
    """Return how many events of a branch a file holds."""
    return int(db.execute(_COUNT, key).fetchone()[0])
