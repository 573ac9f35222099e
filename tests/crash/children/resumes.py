"""A program that is killed again and again, and each time just started anew."""

from __future__ import annotations

import importlib
import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import eventlog
from eventlog.errors import LogOpenError
from eventlog.pipeline import Durability
from eventlog.testing import ScriptedLLM
from tests.integration.resuming import happened
from tests.scenarios import World, build, texts

RUN = "r"


class Fate:
    """Counts what this process does to the world, in a file that outlives it, and kills it when the time has come."""

    def __init__(self, file: Path, kill_at: int | None, when: str) -> None:
        """``kill_at``: which touch is the last one; ``when``: ``before`` it is answered, or ``after``."""
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._left, self._when = kill_at or 0, when

    def begin(self, part: str) -> None:
        """A part of the world is touched: note it where it cannot be lost."""
        os.write(self._file, f"{part}\n".encode())
        self._left -= 1
        if self._left == 0 and self._when == "before":
            os.kill(os.getpid(), signal.SIGKILL)

    def end(self) -> None:
        """It has answered."""
        if self._left == 0 and self._when == "after":
            os.kill(os.getpid(), signal.SIGKILL)


class MortalLLM(ScriptedLLM):
    """Notes its calls, and may not survive one."""

    def _respond(self, request: Any, call: Any) -> Any:
        """Answer."""
        fate.begin("llm")
        reply = super()._respond(request, call)
        fate.end()
        return reply


class Runs(list[str]):
    """Notes the runs of a tool, and may not survive one."""

    def append(self, item: str) -> None:
        """Note one."""
        fate.begin("tool")
        super().append(item)
        fate.end()


class Questions(list[str]):
    """Notes the questions that a person was asked, and may not survive one."""

    def append(self, item: str) -> None:
        """Note one."""
        fate.begin("question")
        super().append(item)
        fate.end()


fate: Fate

LATE = ("lance_namespace", "eventlog.log", "eventlog.resume.director")
"""What is loaded late: by every flow of CrewAI (the rest of LanceDB starts threads), and by us."""


def prepare() -> None:
    """Load it before the fork: it takes seconds."""
    for name in LATE:
        with suppress(ImportError):
            importlib.import_module(name)


def program(
    folder: Path, *, shape: str, kill_at: int | None = None, when: str = "before", durability: Durability = "commit",
    delay: float = 0.0,
) -> None:  # fmt: skip
    """Build everything, kick it off, and say what came out: the same lines each time it is started."""
    global fate
    fate = Fate(folder / "touches", kill_at, when)
    world = World(MortalLLM, **({"delay": delay} if delay else {}))
    world.tool_runs, world.questions = Runs(), Questions()
    scenario = build(shape, world)
    path = folder / "log.db"
    with suppress(LogOpenError), eventlog.open(path, readonly=True) as log:  # none, or killed while it was made
        world.go_on_after(happened(log.events(RUN) if log.runs() else ()))
    (folder / "pid").write_text(str(os.getpid()))
    began = time.monotonic()
    with eventlog.open(path, durability=durability) as log:
        with log.run(RUN) as run, run.directed():
            result = scenario.start()
        status = log.status()
        report = {
            "texts": texts(result),
            "tokens": str(getattr(result, "token_usage", None)),
            "status": log.state(RUN).status,
            "failed": status.failed,
            "seconds": time.monotonic() - began,
        }
    (folder / "report.json").write_text(json.dumps(report))
