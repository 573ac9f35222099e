"""CrewAI's system-signal events when its telemetry, which normally emits them, is off.

Each handler emits the event and then does what would have happened without us: the
handler that was there, or the system's default. Opt out with ``signals=False``.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from crewai.events.event_bus import crewai_event_bus as bus
from crewai.events.types import system_events

from eventlog import interrupts, pipeline
from eventlog.capture.hub import hub
from eventlog.logger import Logger

EVENTS = {
    "SIGTERM": system_events.SigTermEvent,
    "SIGINT": system_events.SigIntEvent,
    "SIGHUP": system_events.SigHupEvent,
    "SIGTSTP": system_events.SigTStpEvent,
    "SIGCONT": system_events.SigContEvent,
}
log = Logger(__name__)


class SignalEvents:
    """Chained signal handlers that emit events."""

    def __init__(self) -> None:
        """Nothing installed."""
        self._previous: dict[int, Any] = {}
        self._users = 0

    def install(self) -> None:
        """Chain to every signal whose handler is not CrewAI's own; only the main thread may."""
        self._users += 1
        if threading.current_thread() is not threading.main_thread():
            return
        for name in EVENTS:
            number = getattr(signal, name, None)
            if number is None or number in self._previous:
                continue
            current = signal.getsignal(number)
            if getattr(current, "__module__", "").startswith("crewai.") or current in (None, signal.SIG_IGN):
                continue  # emitted already; or installed from C; or the user wants it ignored (nohup)
            signal.signal(number, self._handle)
            self._previous[number] = current

    def remove(self) -> None:
        """Put back what was there with the last user, unless somebody else took over since."""
        self._users -= 1
        if self._users > 0 or threading.current_thread() is not threading.main_thread():
            return
        for number, previous in list(self._previous.items()):
            if signal.getsignal(number) == self._handle:
                signal.signal(number, previous)
                del self._previous[number]

    def _handle(self, number: int, frame: Any) -> None:
        """Emit the event, then do what would have been done; what we interrupted in our own code is finished first."""
        if hub.is_busy() or pipeline.is_writing():
            interrupts.postpone(lambda: self._handle(number, frame))
            return
        try:
            bus.emit(self, EVENTS[signal.Signals(number).name]())
        except Exception as error:  # the signal must work whatever happens to its event
            log.warning("signal_event_failed", error=repr(error))
        previous = self._previous.get(number, signal.SIG_DFL)
        if callable(previous):
            previous(number, frame)
        elif previous == signal.SIG_DFL:
            self._default(number)

    def _default(self, number: int) -> None:
        """Let the system do its default (end or stop the process), and be back after a stop."""
        for recorder in hub.recorders:
            recorder.pipeline.flush(timeout_s=1.0)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._handle)


signal_events = SignalEvents()
"""One set of handlers per process."""
