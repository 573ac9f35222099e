"""Really capture one event, in a log of its own: the proof that the tap works with this CrewAI."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
from crewai.events.base_events import BaseEvent
from crewai.events.event_bus import crewai_event_bus as bus

from eventlog.listener import EventLogListener
from eventlog.log import open_log


class DoctorEvent(BaseEvent):
    """An event nobody but us listens to."""

    type: str = "eventlog_doctor"


class ProbeResult(msgspec.Struct, frozen=True):
    """What the probe showed."""

    capture_mode: str
    captured: bool
    """Whether the event was in the file, by its own id."""
    last_error: str | None


def probe_capture() -> ProbeResult:
    """Emit an event, capture it, read it back."""
    with tempfile.TemporaryDirectory(prefix="eventlog-doctor-") as folder:
        log = open_log(Path(folder) / "probe.db")
        listener = EventLogListener(log, signals=False)
        event = DoctorEvent()
        bus.emit(None, event)
        mode = log.status().capture_mode
        listener.close()
        found = [stored.event_id for stored in log.events(types=[event.type])]
        error = log.status().last_error
        log.close()
    return ProbeResult(mode, found == [event.event_id], error)
