"""Workers that share the items of one session."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from crewai import Agent, Crew, Task

import eventlog
from eventlog.testing import ScriptedLLM

RUN = "r"


class Witness:
    """Notes who did what, in a file that outlives everybody, and kills its process when the time has come."""

    def __init__(self, folder: Path, kill_at: int = 0) -> None:
        """``kill_at``: which note is the last one; 0: none."""
        self._file = os.open(folder / "touches", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._left = kill_at

    def note(self, what: str) -> None:
        """Write one line."""
        os.write(self._file, f"{what}\n".encode())
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class MortalLLM(ScriptedLLM):
    """Notes its calls."""

    def _respond(self, request: Any, call: Any) -> Any:
        """Answer."""
        question = str(call.messages[-1]["content"])
        reply = super()._respond(request, call)
        witness.note("llm " + question.partition("Current Task: ")[2].partition("\n")[0])
        return reply


witness: Witness


def _crew(item: str, delay: float) -> Crew:
    """Return a crew that does an item in two tasks."""
    agent = Agent(role="Worker", goal="Work", backstory="Old", llm=MortalLLM(delay=delay))
    tasks = [Task(description=f"{item}/{part}", expected_output="A text", agent=agent) for part in ("one", "two")]
    return Crew(agents=[agent], tasks=tasks)


def pipeline(folder: Path, items: list[str], kill_at: int = 0, delay: float = 0.0) -> None:
    """Do all items in order, each with the result of the one before; write the results."""
    _begin(folder, kill_at)
    with eventlog.open(folder / "log.db") as log, log.run(RUN, items=items) as run:
        results = [""]
        for item in items:
            results.append(str(run.step(item, run.kickoff, _crew(f"{item} after {results[-1][:30]}", delay))))
    (folder / "results.json").write_text(json.dumps(results[1:]))


def worker(folder: Path, items: Any, kill_at: int = 0, delay: float = 0.0) -> None:
    """Do whatever nobody has."""
    _begin(folder, kill_at)
    with eventlog.open(folder / "log.db") as log, log.run(RUN, items=items) as run:
        for item in run.take():
            run.step(item, _body, item, delay)


def workers(folder: Path, count: int, items: Any, delay: float, kills: dict[str, int] | None = None) -> None:
    """Let so many workers share the items; ``kills``: number of a worker → at which of its notes it dies."""
    doomed = {int(number): at for number, at in (kills or {}).items()}
    _in_children([partial(worker, folder, items, doomed.get(n, 0), delay) for n in range(count)])


def everybody_in_order(folder: Path, count: int, items: list[str], delay: float) -> None:
    """Let so many processes run the same program: each goes through all items and gets every result."""

    def program(number: int) -> None:
        _begin(folder, 0)
        with eventlog.open(folder / "log.db") as log, log.run(RUN, items=items) as run:
            results = [run.step(item, _body, item, delay) for item in items]
        (folder / f"results-{number}.json").write_text(json.dumps(results))

    _in_children([partial(program, n) for n in range(count)])


def forking(folder: Path) -> None:
    """Fork in the middle of a step, with other threads at work; parent and child each do steps on the same ``run``."""
    _begin(folder, 0)
    with eventlog.open(folder / "log.db") as log, log.run(RUN) as run:

        def outer() -> str:
            busy = [threading.Thread(target=_many, args=(run, f"thread-{n}"), daemon=True) for n in range(2)]
            for thread in busy:
                thread.start()
            pid = os.fork()
            if pid == 0:
                _many(run, "child")
                os._exit(0)  # the parent's handlers are not ours
            os.waitpid(pid, 0)
            for thread in busy:
                thread.join()
            return "outer"

        run.step("outer", outer)


def _many(run: eventlog.Run, name: str) -> None:
    """Do a few steps of one's own, and one that all do."""
    for number in range(5):
        run.step(f"{name}-{number}", witness.note, f"body {name}-{number}")
    run.step("shared", witness.note, "body shared")


def _in_children(programs: list[Callable[[], None]]) -> None:
    """Run programs at the same time, each in a process of its own."""
    pids = []
    for number, program in enumerate(programs):
        pid = os.fork()
        if pid == 0:
            time.sleep(0.05 * number)
            program()
            os._exit(0)  # the parent's handlers are not ours
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)


def _begin(folder: Path, kill_at: int) -> None:
    """Have a witness."""
    global witness
    witness = Witness(folder, kill_at)


def _body(item: str, delay: float) -> str:
    """Do one item with a plain kickoff."""
    witness.note(f"body {item}")
    return str(_crew(item, delay).kickoff())
