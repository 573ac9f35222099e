"""Which file a path leads to, and whether it is still the one that a connection has open.

SQLite goes on writing into a file that was deleted or moved away, where nobody will find what it writes. So the
pipeline looks at the path after a commit, unless it did so a moment ago.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from eventlog.seal import PLAIN, Seal

FileId = tuple[int, int]
"""Device and number of a file: what it is, whatever it is called."""
NOWHERE: FileId = (-1, -1)
"""No path leads there."""
OPEN_TRIES = 3
"""A file may be replaced while it is opened, and an overlay gives one another number when it is opened for writing."""
ALONE_S = 5.0
NEIGHBOURS = ("-wal", "-shm")
PART_S = 1.0
"""How long whoever reads waits for those who write to take the WAL of a former file away."""


class Connection(sqlite3.Connection):
    """A connection that knows which file it has open."""

    path: str = ""
    file: FileId | None = None
    """``None`` where the numbers of files are not to be trusted: then it never moves."""
    wal: FileId | None = None
    """Its WAL, if there was one when it was opened."""
    seal: Seal = PLAIN
    """What seals and opens the values in it."""


def connect(name: Path | str, path: Path, **options: Any) -> Connection:
    """Return a connection to the file at ``path``, which SQLite calls ``name``."""
    for _ in range(OPEN_TRIES - 1):
        db = _connect(name, path, options)
        if db.file is not None:
            return db
        db.close()
    return _connect(name, path, options)


def _connect(name: Path | str, path: Path, options: dict[str, Any]) -> Connection:
    """Return a connection; it knows its file if that was the same before and after."""
    before = file_id(path)
    db = sqlite3.connect(name, isolation_level=None, check_same_thread=False, factory=Connection, **options)
    db.path = str(path)
    db.file = before if before == file_id(path) else None
    return db


def file_id(path: Path | str) -> FileId | None:
    """Return which file a path leads to; ``None`` when there is none, or the system does not tell."""
    try:
        found = os.stat(path)  # noqa: PTH116 - half the time of Path.stat, and appends wait for it
    except OSError:
        return None
    return found.st_dev, found.st_ino


def has_moved(db: Connection) -> bool:
    """Whether the path of a connection leads to another file by now, or to none."""
    if db.file is None:
        return False
    try:
        found = os.stat(db.path)  # noqa: PTH116 - as above
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # nobody can tell: a folder that may not be looked into
        return False
    return (found.st_dev, found.st_ino) != db.file


def has_parted(db: Connection) -> bool:
    """Whether the WAL beside the path of a connection is not, or no longer, its own; waits for that a while.

    Where a file was replaced, SQLite would read the former one's WAL into the next, and share its index.
    """
    deadline = time.monotonic() + PART_S
    while db.wal is not None and file_id(f"{os.path.realpath(db.path)}-wal") == db.wal:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@contextmanager
def alone_in(folder: Path) -> Generator[None]:
    """Keep other processes of ours from making a log in that folder; where that cannot be had, go on without."""
    handle = _locked(folder)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _locked(folder: Path) -> int | None:
    """Return a handle that holds the lock of a folder."""
    try:
        import fcntl  # noqa: PLC0415 - not on Windows, where nobody deletes a file that is open

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    deadline = time.monotonic() + ALONE_S
    while time.monotonic() < deadline:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.005)
        except OSError:  # a file system without locks
            break
        else:
            break
    return handle


def part_neighbours(path: Path | str) -> None:
    """Take away the WAL of a file that is not there any more: SQLite would read it into the next one of that name."""
    for suffix in NEIGHBOURS:
        with suppress(FileNotFoundError):
            os.unlink(f"{path}{suffix}")  # noqa: PTH108 - the name is a string
