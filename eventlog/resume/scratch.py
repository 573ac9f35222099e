"""A log for one re-execution: a real one, in a temporary folder, gone when it is closed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from eventlog import writer
from eventlog.read import Reader
from eventlog.record import MAIN_BRANCH, StoredEvent
from eventlog.redact import Redaction

if TYPE_CHECKING:
    from eventlog.capture.homes import Home


class Scratch:
    """Captures what is executed again."""

    def __init__(self, run: str, redaction: Redaction, recorded: Reader) -> None:
        """``run`` is called as the recorded one: its name is in the keys of tool uses.

        What is executed again from an encrypted log is encrypted like it.

        Raises:
            LogOpenError: there is no room for temporary files.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="eventlog-"))
        self.file = self._folder / "again.db"
        options = writer.Options(redaction=redaction, snapshot_on=(), key=recorded.key, like=recorded.seal)
        self.writer = writer.acquire(self.file, options)
        self.home: Home = self.writer.enter_run(run, MAIN_BRANCH)
        self.reader = Reader(self.file, recorded.key)

    def events(self, path: str) -> Iterator[StoredEvent]:
        """Yield what was captured of the execution at ``path``."""
        self.writer.pipeline.flush(timeout_s=10.0)
        branch = self.reader.branch_id(self.home.run, MAIN_BRANCH)
        return self.reader.stored(branch, below=path)

    def close(self) -> None:
        """Capture no more; nothing is left."""
        self.writer.leave_run(self.home)
        self.reader.close()
        writer.release(self.writer)
        shutil.rmtree(self._folder, ignore_errors=True)
