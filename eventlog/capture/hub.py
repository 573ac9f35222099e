"""One tap and one set of wrapped methods per process, shared by all recorders."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from eventlog.logger import Logger

if TYPE_CHECKING:
    from eventlog.capture.patches import Patch
    from eventlog.capture.recorder import Recorder
    from eventlog.capture.tap import Tap

log = Logger(__name__)

in_boundary: ContextVar[bool] = ContextVar("eventlog_in_boundary", default=False)
"""Set while a recorded call runs: calls it makes through the same class are part of it."""


class Hub:
    """Installs the tap with the first recorder and takes everything off with the last."""

    def __init__(self) -> None:
        """Nothing is installed until somebody records."""
        self.recorders: tuple[Recorder, ...] = ()
        self._lock = threading.RLock()
        self._tap: Tap | None = None
        self._patches: list[Patch] = []
        self._observe: Callable[[Any], None] = lambda _event: None

    @property
    def mode(self) -> str:
        """How events are captured: ``off``, ``tap`` or ``handlers``."""
        return self._tap.mode if self._tap else "off"

    def add(self, recorder: Recorder) -> None:
        """Start delivering events to a recorder."""
        with self._lock:
            if recorder in self.recorders:
                return
            self.recorders = (*self.recorders, recorder)
            if self._tap is None:
                self._install()

    def discard(self, recorder: Recorder) -> None:
        """Stop delivering events to a recorder."""
        with self._lock:
            self.recorders = tuple(r for r in self.recorders if r is not recorder)
            if not self.recorders and self._tap is not None:
                self._uninstall()

    def _install(self) -> None:
        """Tap the bus and wrap the boundaries."""
        from eventlog.capture import boundaries  # noqa: PLC0415 - imports CrewAI
        from eventlog.capture.tap import Tap  # noqa: PLC0415

        self._observe = boundaries.observe
        self._tap = Tap(self.deliver)
        self._tap.install()
        self._patches = boundaries.all_patches()
        for patch in self._patches:
            self.patch(patch)

    def patch(self, patch: Patch) -> None:
        """Wrap one method; what this CrewAI version does not have is left alone, and said."""
        try:
            patch.install()
        except Exception as error:
            log.warning("boundary_unavailable", method=f"{patch.cls.__name__}.{patch.name}", error=repr(error))
        if patch not in self._patches:
            self._patches.append(patch)

    def _uninstall(self) -> None:
        """Leave CrewAI as it was."""
        if self._tap is not None:
            self._tap.remove()
        for patch in reversed(self._patches):
            patch.remove()
        self._tap, self._patches = None, []

    def deliver(self, source: Any, event: Any) -> None:
        """Hand an event to every recorder. Raises only what a signal handler raises."""
        self._observe(event)
        for recorder in self.recorders:
            recorder.capture(source, event)

    def each(self, act: Callable[[Recorder], None]) -> None:
        """Let every recorder do something on its own account; its errors are its own."""
        for recorder in self.recorders:
            recorder.guarded(act)

    def after_fork_in_child(self) -> None:
        """The locks of other threads are gone with those threads."""
        self._lock = threading.RLock()
        for recorder in self.recorders:
            recorder.after_fork_in_child()


hub = Hub()
"""The one hub of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=hub.after_fork_in_child)
