"""Do work in a process of its own and kill it: after a time, or instead of entering a function."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from itertools import count
from typing import Any

Begin = Callable[[], object]
"""What the work calls when it begins: from then on it may be killed."""


def fork(work: Callable[[], object]) -> int:
    """Return the id of a process that does some work."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    return pid


def fork_and_wait(work: Callable[[], object]) -> int:
    """Return how a process ended that did some work."""
    return os.waitstatus_to_exitcode(os.waitpid(fork(work), 0)[1])


def leave() -> None:
    """End at once: to take down an interpreter that has loaded CrewAI takes longer than most of what it did."""
    os._exit(0)


def run(work: Callable[[Begin], object], kill_s: float | None = None) -> tuple[int, float]:
    """Return how a process that did some work ended, and how long it took; ``kill_s``: after it began."""
    ready, tell = os.pipe()
    child = fork(lambda: work(lambda: os.write(tell, b".")))
    os.close(tell)
    os.read(ready, 1)
    start = time.perf_counter()
    if kill_s is not None:
        time.sleep(kill_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(ready)
    return os.waitstatus_to_exitcode(status), time.perf_counter() - start


def die_instead(owner: Any, point: str, nth: int = 1) -> None:
    """Be killed instead of entering a function for the ``nth`` time."""
    *names, last = point.split(".")
    for name in names:
        owner = getattr(owner, name)
    entered, calls = getattr(owner, last), count(1)

    def enter(*args: Any, **options: Any) -> Any:
        if next(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return entered(*args, **options)

    setattr(owner, last, enter)
