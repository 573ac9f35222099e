"""A crew that is recorded and dies in the middle of its second task."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crewai import Agent, Crew, Task

from eventlog import EventLogListener
from eventlog.testing import ScriptedLLM, final
from tests.crash.children.witness import emit, mark, watch


def fail() -> None:
    """Raise what CrewAI catches."""
    raise ValueError("the model is gone")


def be_killed_from_outside() -> None:
    """Go on until the test kills us."""
    while True:
        emit(1)


DEATHS: dict[str, Callable[[], Any]] = {
    "exit": lambda: None,
    "exception": fail,
    "sys_exit": lambda: sys.exit(3),
    "sigterm": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "sigint": lambda: os.kill(os.getpid(), signal.SIGINT),
    "sigkill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "os_exit": lambda: os._exit(7),
    "outside": be_killed_from_outside,
}


def crew(folder: Path, *, death: str, durability: str, batch_ms: float = 20) -> None:
    """Record a crew of three tasks whose third model call dies, and an event that an exit handler emits."""
    listener = EventLogListener(folder / "log.db", durability=durability, batch_ms=batch_ms)
    watch(folder)
    atexit.register(emit, 99)
    calls = 0

    def answer(messages: Any, tools: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= 3:
            mark(folder, "dying")
            DEATHS[death]()
        return final(f"answer {calls}")

    agent = Agent(role="Writer", goal="Write", backstory="Old", llm=ScriptedLLM(script=answer))
    tasks = [Task(name=f"t{i}", description=f"Do {i}", expected_output="Text", agent=agent) for i in range(3)]
    Crew(name="mortals", agents=[agent], tasks=tasks).kickoff()
    assert listener.log.status().failed == 0


def burst(folder: Path, *, batch_ms: float, wait_s: float = 0.0) -> None:
    """Emit in ``batch`` mode, slowly at first, and be killed without warning."""
    EventLogListener(folder / "log.db", durability="batch", batch_ms=batch_ms)
    watch(folder)
    for n in range(200):
        emit(n)
        time.sleep(0.001)
    time.sleep(wait_s)
    mark(folder, "dying")
    os.kill(os.getpid(), signal.SIGKILL)
