"""The tutorial's program, killed at a given point; and started again as it is."""

from __future__ import annotations

import importlib
import os
import signal
from itertools import count
from pathlib import Path
from typing import Any

from tests.crash.children.killing import die_instead

LATE = ("crewai", "eventlog.testing", "eventlog.aegis", "eventlog.log")


def prepare() -> None:
    """Load what takes time, before the fork."""
    for name in LATE:
        importlib.import_module(name)


def tutorial(folder: Path, call: int = 0, method: str = "", nth: int = 0) -> None:
    """Run it; it is killed instead of the LLM's answer to a ``call``, or once a ``method`` has returned."""
    from eventlog.aegis import AegisClient
    from eventlog.testing import ScriptedLLM

    os.environ["EVENTLOG_DB"] = str(folder / "log.db")
    if call:
        die_instead(ScriptedLLM, "_respond", call)
    if method:
        die_after(AegisClient, method, nth)
    importlib.import_module("tests.integration.aegis_tutorial").main()


def die_after(owner: Any, name: str, nth: int) -> None:
    """Be killed when a method has returned for the ``nth`` time."""
    method, calls = getattr(owner, name), count(1)

    def enter(*args: Any, **options: Any) -> Any:
        result = method(*args, **options)
        if next(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, enter)
