"""See to it that nothing of what was forgotten is left in the bytes of a log: free pages, the WAL, all of it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from eventlog.append import Appender
from eventlog.forgetting.needle import Needle
from eventlog.pipeline import Pipeline

CHUNK_BYTES = 1 << 20
CHANCE_CHARS = 8
"""Bytes of a shorter value may stand somewhere by chance."""

_AGAIN = "run the same again once no other program uses the log"

_kept_open: dict[tuple[int, int], int] = {}
"""Descriptors of log files by device and inode. To close one would drop every lock SQLite holds on that file in this
process, and another process could then remove the WAL under it."""


def scrub(pipeline: Pipeline) -> list[str]:
    """Rebuild the file from what is in it, and truncate the WAL; returns what could not be done."""
    problems: list[str] = pipeline.run_exclusively(_rebuild)
    return problems


def overwrite_freed(db: sqlite3.Connection) -> None:
    """Have freed pages and cells overwritten, on this connection, from now on."""
    db.execute("PRAGMA secure_delete = ON").fetchall()


def _rebuild(appender: Appender) -> list[str]:
    """Copy everything into new pages; earlier deletions have left text in the old ones."""
    db = appender.db
    try:
        db.execute("VACUUM")
    except sqlite3.OperationalError as error:
        return [f"it was taken out, but free pages may still hold it ({error}): {_AGAIN}"]
    busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    return [f"it was taken out, but another program reads the log, so the WAL still holds it: {_AGAIN}"] if busy else []


def search_bytes(path: Path, needle: Needle, value_chars: int) -> list[str]:
    """Return where the bytes of a log still hold a value."""
    problems = []
    for name in (path, Path(f"{path}-wal")):
        places = sum(_count(name, form, keep=name == path) for form in set(needle.raw_forms)) if name.exists() else 0
        if places:
            chance = "; a value this short may stand there by chance" if value_chars < CHANCE_CHARS else ""
            problems.append(f"{name.name} still holds its bytes in {places} places{chance}")
    return problems


def _count(path: Path, form: bytes, *, keep: bool) -> int:
    """Return how often some bytes stand in a file."""
    found, tail = 0, b""
    for chunk in _chunks(path, keep=keep):
        data = tail + chunk
        found += data.count(form)
        tail = data[len(data) - len(form) + 1 :] if len(form) > 1 else b""
    return found


def _chunks(path: Path, *, keep: bool) -> Iterator[bytes]:
    """Yield a file piece by piece; ``keep``: its descriptor is not closed, see ``_kept_open``."""
    fd = _descriptor(path) if keep else os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        while chunk := os.read(fd, CHUNK_BYTES):
            yield chunk
    finally:
        if not keep:
            os.close(fd)


def _descriptor(path: Path) -> int:
    """Return the descriptor of a log that stays open."""
    facts = path.stat()
    key = (facts.st_dev, facts.st_ino)
    if key not in _kept_open:
        _kept_open[key] = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    return _kept_open[key]
