"""Copy a log while others write to it: one moment of it, verified before it gets its name."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from eventlog.chain_key import PLAIN_CHAIN, stored_check
from eventlog.errors import LogDamagedError
from eventlog.newfile import new_file
from eventlog.seal import CipherKey
from eventlog.storage import open_reader
from eventlog.transactions import translated
from eventlog.verifying.report import VerifyReport
from eventlog.verifying.verify import verify_log

STEP_PAGES = 256
"""Copied between two looks at whether somebody wants to stop."""

Progress = Callable[[str, int], None]
"""Gets what is being done, and how much more of it was done."""


def no_progress(_what: str, _count: int) -> None:
    """Tell nobody."""


class Backup(msgspec.Struct, frozen=True):
    """A copy of a log."""

    path: str
    """Absolute."""
    bytes: int
    verified: VerifyReport
    """What a check of the copy found: that it is sound."""


def make_backup(
    source: Path, target: Path, progress: Progress = no_progress, key: CipherKey | None = None
) -> Backup:  # fmt: skip
    """Return a copy of the log as it stands now, made and verified while others go on writing.

    Private (0600), on the disk, and complete or not there. ``key``: what the log is encrypted with, and so the copy;
    ``None`` means that of the environment.

    Raises:
        LogUnwritableError: there is something of that name, or no space; nothing was left.
        LogDamagedError: the copy does not hold together, because the log does not; it was not kept.
        LogOpenError: the log cannot be read, or EVENTLOG_KEY is another key than its own.
    """
    with new_file(target) as part:
        plain = _copy(source, part, progress, key)
        chain = PLAIN_CHAIN if plain else None
        report = verify_log(part, chain=chain, key=key, on_step=lambda: progress("verifying", 1))
        if not report.ok:
            raise LogDamagedError(str(source), f"{report.findings[0].what}; no backup was kept")
        size = part.stat().st_size
    report.path = str(target)
    return Backup(str(target.absolute()), size, report)


def _copy(source: Path, part: Path, progress: Progress, key: CipherKey | None) -> bool:
    """Copy page by page; returns whether the chain has no key.

    The reading transaction stays open: all pages are of one moment, and nobody who writes makes it begin again.
    """
    with closing(open_reader(source, key)) as old, translated(source), closing(sqlite3.connect(part)) as new:
        new.execute("PRAGMA synchronous = OFF")  # the whole file is brought to the disk at the end
        new.execute("PRAGMA journal_mode = OFF")
        old.execute("BEGIN")
        is_plain = stored_check(old) is None
        left: list[int] = []

        def on_step(_status: int, remaining: int, total: int) -> None:
            progress("copying", (left[-1] if left else total) - remaining)
            left[:] = [remaining]

        old.backup(new, pages=STEP_PAGES, progress=on_step)
        return is_plain
