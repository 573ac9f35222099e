"""CrewAI's convention: make a listener once, keep it, and everything is captured."""

from __future__ import annotations

import os
from typing import Any

from crewai.events.base_event_listener import BaseEventListener

from eventlog.capture.homes import Home
from eventlog.capture.signals import signal_events
from eventlog.log import Log, open_log
from eventlog.record import MAIN_BRANCH


class EventLogListener(BaseEventListener):
    """Captures every event of this process into a log until ``close()``.

    Each kickoff becomes a run of its own, unless ``run`` names one for all. Raises while it is
    made if the file cannot be used; never later, into your crew.
    """

    def __init__(
        self, log: str | os.PathLike[str] | Log | None = None, *, run: str | None = None, branch: str = MAIN_BRANCH,
        signals: bool = True, **options: Any,
    ) -> None:  # fmt: skip
        """``log``: a path, an open log, or nothing for the default path; ``options`` as for ``eventlog.open``.

        ``branch`` is that of ``run``. ``signals``: emit CrewAI's system-signal events where its own telemetry does not.

        Raises:
            LogOpenError: the file cannot be used as a log.
        """
        self._own = not isinstance(log, Log)
        self.log = log if isinstance(log, Log) else open_log(log, **options)
        self._run, self._branch, self._signals = run, branch, signals
        self._home: Home | None = None
        self._closed = False
        super().__init__()

    def setup_listeners(self, crewai_event_bus: Any) -> None:  # noqa: ARG002 - we tap it, the one there is
        """Place the tap; no handler is registered on the bus, so none can be late or miss an event."""
        writer = self.log.writer
        writer.recorder.start(capture_all=True)
        if self._run is not None:
            self._home = writer.enter_run(self._run, self._branch)
            writer.recorder.homes.listener_homes.append(self._home)
        if self._signals:
            signal_events.install()

    def close(self) -> None:
        """Capture no more and leave CrewAI as it was; the log is closed if the listener opened it."""
        if self._closed:
            return
        self._closed = True
        writer = self.log.writer
        homes = writer.recorder.homes
        homes.listeners = max(0, homes.listeners - 1)
        if self._home is not None:
            homes.listener_homes.remove(self._home)
            writer.leave_run(self._home)
        writer.recorder.pause_if_idle()
        if self._signals:
            signal_events.remove()
        if self._own:
            self.log.close()
        else:
            self.log.flush()
