"""Processes that work on one run and are told what to do next by their parent."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import eventlog
from eventlog.errors import RunBusyError

RUN = "r"


class Worker:
    """A forked process that has the log open and obeys: take, append, give back."""

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

    def take(takeover: bool) -> Any:
        try:
            held.append(log.writer.take_lease(RUN, takeover=takeover))
        except RunBusyError as error:
            return str(error)
        return held[-1].epoch

    def append(base: int, count: int) -> list[int]:
        return [log.append("test.note", {"n": n}, run=RUN) for n in range(base, base + count)]

    def give_back() -> None:
        log.writer.give_back(held.pop())

    known: dict[str, Any] = {
        "take": take,
        "append": append,
        "give_back": give_back,
        "is_lost": lambda: held[-1].is_lost,
        "append_to": lambda branch, base, count: [
            log.append("test.note", {"n": n}, run=RUN, branch=branch) for n in range(base, base + count)
        ],
    }
    for line in os.fdopen(orders):
        name, *args = json.loads(line)
        os.write(answers, json.dumps(known[name](*args)).encode())
    log.close()
    os._exit(0)


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
    """Take the run from each other, again and again, each appending all the time."""
    workers = [Worker(folder, durability) for _ in range(3)]
    for turn in range(rounds):
        for worker in workers:
            worker.tell("append", 1000 * turn, 4)
        for worker in workers:
            worker.answer()
        workers[turn % 3]("take", True)
    say(folder, appended=rounds * 3 * 4)


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
