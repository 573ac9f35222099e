"""Give freed pages back to the disk."""

from __future__ import annotations

import os
from pathlib import Path

from eventlog.append import Appender
from eventlog.compaction.sweep import in_steps
from eventlog.pipeline import Pipeline
from eventlog.read import Reader
from eventlog.storage import open_writer
from eventlog.transactions import impatient, translated

BUSY_MS = 50
"""How long emptying the WAL may wait for readers; appends wait for it."""


def free_pages(pipeline: Pipeline) -> None:
    """Return free pages to the system in short steps."""
    in_steps(pipeline, _free_pages)


def empty_wal(pipeline: Pipeline, reader: Reader) -> None:
    """Bring everything into the one file, and truncate the WAL unless somebody reads it."""
    with translated(reader.file):
        beside = open_writer(reader.file, key=reader.key)  # appends go on meanwhile
        try:
            beside.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        finally:
            beside.close()
    pipeline.run_exclusively(_truncate)


def _truncate(appender: Appender) -> None:
    """Truncate the WAL unless somebody reads it at the moment."""
    with impatient(appender.db, BUSY_MS):
        appender.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _free_pages(appender: Appender, pages: int) -> int:
    """Free some pages; returns how many."""
    before = _free(appender)
    appender.db.execute(f"PRAGMA incremental_vacuum({max(pages // 8, 1)})").fetchall()
    return before - _free(appender)


def _free(appender: Appender) -> int:
    """Return how many pages are free."""
    return int(appender.db.execute("PRAGMA freelist_count").fetchone()[0])


def bytes_on_disk(path: Path) -> int:
    """Return the size of a log with its WAL."""
    return sum(os.stat(name).st_size for name in (path, f"{path}-wal") if os.path.exists(name))  # noqa: PTH110, PTH116
