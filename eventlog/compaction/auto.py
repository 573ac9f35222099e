"""Compact in the background while a crew is running, and finish what an earlier compaction left.

A thread looks now and then how much was appended; the emitter's thread only counts. What it does to the file is
done in steps of some milliseconds between the appends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from eventlog.compaction.compact import Wish, clear_away, compact
from eventlog.compaction.sweep import is_unswept
from eventlog.errors import EventLogError
from eventlog.logger import Logger
from eventlog.pipeline import Pipeline
from eventlog.read import Reader
from eventlog.record import NewEvent

LOOK_S = 0.2
"""How often the thread looks."""
CLOSE_S = 10.0

log = Logger(__name__)


class _StoppedError(Exception):
    """The log is being closed: the next opener goes on."""


class Compactor:
    """Keeps a log at ``max_checkpoints`` for each branch."""

    def __init__(
        self, pipeline: Pipeline, reader: Callable[[], Reader], max_checkpoints: int | None, events_max: int,
        bytes_max: int,
    ) -> None:  # fmt: skip
        """``reader`` gives the reading connection of this log's background work. Without a number it only tidies up."""
        self._pipeline, self._reader = pipeline, reader
        self._max_checkpoints, self._events_max, self._bytes_max = max_checkpoints, events_max, bytes_max
        self.cuts = 0
        """Bases this process has moved."""
        self.last_error: str | None = None
        self._reset()

    def _reset(self) -> None:
        """Nothing was appended."""
        self._runs: set[str] = set()
        self._problems: dict[tuple[str, str], str] = {}
        self._events = self._bytes = 0
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look from now on; only where there is something to look after."""
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._work, name="eventlog-compaction", daemon=True)
        try:
            thread.start()
            self._thread = thread
        except RuntimeError as error:  # the interpreter is shutting down
            log.debug("compaction_waits", error=str(error))

    def appended(self, event: NewEvent) -> None:
        """Count an appended event; the work is the thread's."""
        if self._max_checkpoints is None or not event.run:
            return
        self._runs.add(event.run)
        self._events += 1
        self._bytes += len(event.payload) + sum(len(content.body) for content in event.contents)
        if self._thread is None:
            self.start()

    def close(self) -> None:
        """Stop; what is under way is finished by the next opener."""
        self._closed.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=CLOSE_S)

    def after_fork_in_child(self) -> None:
        """The thread is the parent's."""
        self._reset()

    def _work(self) -> None:
        """Finish what was left, then compact whenever enough came."""
        try:
            self._do(lambda: clear_away(self._pipeline, self._reader(), self._on_progress))
            while self._max_checkpoints is not None and not self._closed.wait(LOOK_S):
                if self._events >= self._events_max or self._bytes >= self._bytes_max:
                    self._do(self._compact)
        finally:
            self._thread = None

    def _do(self, job: Callable[[], None]) -> None:
        """Do a job; nothing is lost when it fails."""
        try:
            job()
        except _StoppedError:
            log.debug("compaction_stopped")
        except Exception as error:  # nobody sees this thread fail
            self.last_error = f"{type(error).__name__}: {error}"
            log.warning("compaction_failed", error=self.last_error)

    def _compact(self) -> None:
        """Compact the runs that grew."""
        runs, self._runs, self._events, self._bytes = self._runs, set(), 0, 0
        wish = Wish(max_checkpoints=self._max_checkpoints or 0, runs=tuple(sorted(runs)))
        report = compact(self._pipeline, self._reader(), wish, self._on_progress)
        self.cuts += sum(not branch.problem for branch in report.branches)
        self._take_problems({(branch.run, branch.branch): branch.problem for branch in report.branches})
        if report.branches:
            log.info("compacted", branches=len(report.branches), bytes=report.bytes_after)

    def _take_problems(self, found: dict[tuple[str, str], str]) -> None:
        """Keep a problem that a branch has twice: once, another process may have been quicker."""
        for place, problem in found.items():
            if problem and self._problems.get(place):
                self.last_error = problem
        self._problems.update(found)

    def _on_progress(self, _what: str, _count: int) -> None:
        """Stop where it is when the log is being closed."""
        if self._closed.is_set():
            raise _StoppedError


def is_unfinished(pipeline: Pipeline) -> bool:
    """Whether an earlier compaction left something to delete."""
    try:
        return bool(pipeline.run_exclusively(lambda appender: is_unswept(appender.db)))
    except EventLogError:
        return False
