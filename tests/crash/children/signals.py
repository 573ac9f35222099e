"""System signals that arrive in a recorded process."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import eventlog
from eventlog import EventLogListener
from eventlog.append import Appender
from tests.crash.children.witness import emit, mark


def receive(folder: Path, *, number: int, signals: bool = True, durability: str = "commit") -> None:
    """Get a signal while nothing is under way."""
    EventLogListener(folder / "log.db", signals=signals, durability=durability, batch_ms=5000)
    emit(1)
    os.kill(os.getpid(), number)
    time.sleep(5)


def receive_with_own_handler(folder: Path, *, number: int) -> None:
    """Get a signal for which the program has a handler; it exits with its own code."""

    def handler(_number: int, _frame: Any) -> None:
        mark(folder, "handled")
        sys.exit(5)

    signal.signal(number, handler)
    EventLogListener(folder / "log.db")
    os.kill(os.getpid(), number)
    time.sleep(5)


def receive_while_appending(folder: Path, *, number: int, own: bool) -> None:
    """Get a signal in the middle of the transaction that stores event 2: of the bus, or appended by hand."""
    listener = EventLogListener(folder / "log.db")
    emit(1)
    original = Appender._insert

    def insert(self: Appender, event: Any) -> int:
        if not (folder / "inside").exists():
            mark(folder, "inside")
            os.kill(os.getpid(), number)
            time.sleep(0.01)  # Python calls the handler here
        return original(self, event)

    Appender._insert = insert  # type: ignore[method-assign]
    if own:
        listener.log.append("test.own", {"n": 2})
    else:
        emit(2)
    mark(folder, "survived")


def leave(folder: Path) -> None:
    """Close one of two listeners, then the other; report which handler is installed."""
    before = signal.getsignal(signal.SIGTERM)
    first = EventLogListener(folder / "one.db")
    second = EventLogListener(folder / "two.db")
    first.close()
    assert signal.getsignal(signal.SIGTERM) != before
    second.close()
    assert signal.getsignal(signal.SIGTERM) == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def stop_and_go_on(folder: Path) -> None:
    """Be stopped from the terminal and continued, twice: the handlers must be back each time."""
    log = eventlog.open(folder / "log.db")
    EventLogListener(log)
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            time.sleep(0.1)
            os.kill(os.getppid(), signal.SIGCONT)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGTSTP)
        os.waitpid(pid, 0)
