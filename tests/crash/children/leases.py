"""Processes that work on one run and are told what to do next by their parent."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import zlib
from pathlib import Path
from typing import Any

from crewai import Agent, Crew, Task

import eventlog
from eventlog.errors import RunBusyError
from eventlog.testing import ScriptedLLM, final

RUN = "r"


class Worker:
    """A forked process that has the log open and obeys: take, append, give back, kick off, fork."""

    def __init__(self, folder: Path, durability: str = "commit") -> None:
        """Fork it."""
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._orders)
            _obey(folder, durability, orders, answers)
        os.close(orders)
        os.close(answers)

    def __call__(self, order: str, *args: Any) -> Any:
        """Give an order and wait for the answer."""
        self.tell(order, *args)
        return self.answer()

    def tell(self, order: str, *args: Any) -> None:
        """Give an order only."""
        os.write(self._orders, json.dumps([order, *args]).encode() + b"\n")

    def answer(self) -> Any:
        """Wait for the answer."""
        return json.loads(os.read(self._answers, 100_000))

    def signal(self, number: int) -> None:
        """Send it a signal; when it has died, or stopped, this returns."""
        os.kill(self.pid, number)
        if number == signal.SIGKILL:
            os.waitpid(self.pid, 0)
        if number == signal.SIGSTOP:
            os.waitpid(self.pid, os.WUNTRACED)


def _obey(folder: Path, durability: Any, orders: int, answers: int) -> None:
    """Do as told until nobody tells any more."""
    log = eventlog.open(folder / "log.db", durability=durability, batch_ms=5)
    held: list[Any] = []

    def take(takeover: bool, branch: str = "main") -> Any:
        try:
            held.append(log.writer.take_lease(RUN, branch, takeover=takeover))
        except RunBusyError as error:
            return str(error)
        return held[-1].epoch

    def append_to(branch: str, base: int, count: int) -> list[int]:
        return [log.append("test.note", {"n": n}, run=RUN, branch=branch) for n in range(base, base + count)]

    def give_back() -> None:
        log.writer.give_back(held.pop())

    def kick_off(branch: str, topics: list[str], gated: bool) -> list[str]:
        crew = _crew(folder, branch if gated else None)
        with log.run(RUN, branch=branch) as run:
            return [run.kickoff(crew, inputs={"topic": topic}).raw for topic in topics]

    known: dict[str, Any] = {
        "take": take,
        "append": lambda base, count: append_to("main", base, count),
        "append_to": append_to,
        "give_back": give_back,
        "is_lost": lambda: held[-1].is_lost,
        "are_lost": lambda: {lease.branch: lease.is_lost for lease in held},
        "kick_off": kick_off,
        "fork": lambda branch, outputs: log.fork(RUN, branch=branch, outputs=outputs).branch,
    }
    for line in os.fdopen(orders):
        name, *args = json.loads(line)
        os.write(answers, json.dumps(known[name](*args)).encode())
    log.close()
    os._exit(0)


def _crew(folder: Path, gate: str | None) -> Crew:
    """Return two tasks whose answers follow from the prompts; behind a gate, each waits for ``go``."""

    def answer(messages: Any, _tools: Any) -> Any:
        if gate is not None:
            (folder / f"{gate}.inside").touch()
            wait_for(folder / "go")
        return final(f"answer {zlib.crc32(str(messages).encode())}")

    agent = Agent(role="Worker", goal="g", backstory="b", llm=ScriptedLLM(script=answer))
    texts = {"first": "Find {topic}", "second": "Sum up"}
    tasks = [Task(name=name, description=text, expected_output="x", agent=agent) for name, text in texts.items()]
    return Crew(agents=[agent], tasks=tasks)


def wait_for(path: Path) -> None:
    """Return when the file is there."""
    deadline = time.monotonic() + 20
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.002)


def say(folder: Path, **facts: Any) -> None:
    """Leave what happened for the test."""
    (folder / "report.json").write_text(json.dumps(facts))
    sys.stdout.flush()


def one_at_a_time(folder: Path) -> None:
    """Two processes want the same run; the second gets it when the first gives it back."""
    first, second = Worker(folder), Worker(folder)
    got, refused = first("take", False), second("take", False)
    first("give_back")
    say(folder, got=got, refused=refused, later=second("take", False), pid=first.pid)


def die(folder: Path) -> None:
    """The owner is killed; the next one needs neither patience nor force."""
    first, second = Worker(folder), Worker(folder)
    first("take", False)
    first("append", 1, 3)
    first.signal(signal.SIGKILL)
    say(folder, epoch=second("take", False), seqs=second("append", 10, 2))


def come_back(folder: Path, *, durability: str) -> None:
    """The owner is stopped in the middle of its work, loses the run, and goes on."""
    first, second = Worker(folder, durability), Worker(folder, durability)
    first("take", False)
    first("append", 1, 3)
    first.signal(signal.SIGSTOP)
    first.tell("append", 4, 3)
    refused, epoch = second("take", False), second("take", True)
    second("append", 10, 3)
    first.signal(signal.SIGCONT)
    first.answer()
    second("append", 13, 2)
    first("append", 7, 2)
    say(folder, refused=refused, epoch=epoch, lost=first("is_lost"), kept=not second("is_lost"))


def crowd(folder: Path, *, durability: str, rounds: int) -> None:
    """Take parent and fork from each other, again and again, each appending to both all the time."""
    workers = [Worker(folder, durability) for _ in range(3)]
    workers[0]("append", 0, 1)
    workers[0]("fork", "child", None)
    for turn in range(rounds):
        for branch in ("main", "child"):
            for worker in workers:
                worker.tell("append_to", branch, 1000 * turn, 4)
            for worker in workers:
                worker.answer()
        workers[turn % 3]("take", True)
        workers[turn // 2 % 3]("take", True, "child")
    say(folder, appended=1 + rounds * 3 * 8)


def grow_side_by_side(folder: Path, *, events: int) -> None:
    """Parent and child branches grow from processes of their own, at the same time."""
    with eventlog.open(folder / "log.db") as log:
        for n in range(5):
            log.append("test.note", {"n": n}, run=RUN)
        log.fork(RUN, to=3, branch="child")
        log.fork(RUN, branch="grandchild", parent="child")
    workers = {name: Worker(folder) for name in ("main", "child", "grandchild")}
    for base, (name, worker) in enumerate(workers.items(), start=1):
        worker.tell("append_to", name, base * 1000, events)
    for worker in workers.values():
        worker.answer()


def kick_off_side_by_side(folder: Path, *, durability: str, topics: list[str]) -> None:
    """Parent and fork are in the middle of a kickoff at the same time; a third process looks on and wants both."""
    on_main, on_child, other = (Worker(folder, durability) for _ in range(3))
    before = other("kick_off", "main", topics[:1], False)
    other("fork", "child", {"first": "Edited."})
    workers = {"main": on_main, "child": on_child}
    for branch, worker in workers.items():
        worker.tell("kick_off", branch, topics, True)
    for branch in workers:
        wait_for(folder / f"{branch}.inside")
    with eventlog.open(folder / "log.db", readonly=True) as log:
        listed = [log.runs()[0].status, *(info.status for info in log.branches(RUN))]
        states = [log.state(RUN, branch=branch).status for branch in workers]
    refused = {branch: other("take", False, branch) for branch in workers}
    (folder / "go").touch()
    results = {branch: worker.answer() for branch, worker in workers.items()}
    pids = {branch: worker.pid for branch, worker in workers.items()}
    say(folder, before=before, listed=listed, states=states, refused=refused, results=results, pids=pids)


def lose_one_of_two(folder: Path, *, durability: str) -> None:
    """A process works on parent and fork, is stopped, loses the fork only, and goes on with both."""
    first, second = Worker(folder, durability), Worker(folder, durability)
    first("append", 1, 2)
    first("fork", "child", None)
    epochs = [first("take", False), first("take", False, "child")]
    first("append_to", "child", 101, 1)
    first.signal(signal.SIGSTOP)
    first.tell("append_to", "child", 102, 2)
    epochs.append(second("take", True, "child"))
    second("append_to", "child", 201, 2)
    refused = second("take", False)
    first.signal(signal.SIGCONT)
    first.answer()
    first("append", 3, 2)
    second("append_to", "child", 203, 1)
    first("append_to", "child", 104, 1)
    say(folder, epochs=epochs, refused=refused, lost=first("are_lost"), kept=not second("is_lost"))


def die_on_one_of_two(folder: Path) -> None:
    """The process on the fork is killed; its branch is free at once, the parent's is not."""
    first, second, third = Worker(folder), Worker(folder), Worker(folder)
    first("append", 1, 1)
    first("fork", "child", None)
    first("take", False)
    second("take", False, "child")
    second.signal(signal.SIGKILL)
    say(folder, child=third("take", False, "child"), main=third("take", False), lost=first("is_lost"))
