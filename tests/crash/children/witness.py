"""An independent witness: a file that holds the id of every event whose ``emit`` returned, and when."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

from crewai.events.base_events import BaseEvent
from crewai.events.event_bus import crewai_event_bus as bus


class Counted(BaseEvent):
    """An event of the test's own."""

    type: str = "test_counted"
    n: int = 0


def emit(n: int, **fields: Any) -> str:
    """Emit a counted event and return its id."""
    event = Counted(n=n, **fields)
    bus.emit(None, event)
    return event.event_id


def watch(folder: Path) -> None:
    """Have every ``emit`` of this process witnessed after it returned: one write to a file opened for appending."""
    descriptor = os.open(folder / "witness", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    original = bus.emit

    def emit(source: Any, event: Any) -> Any:
        try:
            return original(source, event)
        except RuntimeError as error:  # CrewAI's own, after its thread pool was shut down: the event is emitted
            if "shutdown" not in str(error):
                raise
            return None
        finally:
            if event.type != "eventlog_probe":  # our own look at whether capture works
                os.write(descriptor, f"{event.event_id} {time.time_ns()}\n".encode())

    bus.emit = emit  # type: ignore[method-assign]


def mark(folder: Path, name: str) -> None:
    """Leave a file that says when something happened."""
    (folder / name).write_text(str(time.time_ns()))


def begin_another(folder: Path) -> None:
    """Keep what was witnessed so far under another name; what comes is witnessed in a file of its own."""
    shutil.copy(folder / "witness", folder / "witness.before")
    os.truncate(folder / "witness", 0)
