"""A crew that works on while the clock goes wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import eventlog
from eventlog import EventLogListener
from eventlog.errors import RunBusyError
from tests.crash import shim
from tests.crash.children.disks import RUN, kick_off, say, timed_emits, wait_until
from tests.crash.children.witness import watch

BACK_AT, FORTH_AT = 2, 4
HOUR = 3600


def crew(folder: Path, *, durability: Any) -> None:
    """Run a crew without a log, then with one while the clock goes back, then forth; report both results."""
    waits = timed_emits()
    expected = str(kick_off(lambda call: None))
    listener = EventLogListener(folder / "log.db", run=RUN, durability=durability, batch_ms=5)
    watch(folder)
    prompt: list[bool] = []

    def on_call(call: int) -> None:
        if call in (BACK_AT, FORTH_AT):
            shim.set_clock(-HOUR if call == BACK_AT else HOUR)
        if call in (BACK_AT + 1, FORTH_AT + 1):
            wait_until(lambda: listener.log.status().queued == 0, 2)
            prompt.append(listener.log.status().queued == 0)

    waits.clear()
    result = str(kick_off(on_call))
    shim.set_clock(0)
    listener.log.flush()
    say(folder, listener.log, expected=expected, result=result, longest=max(waits), prompt=prompt)
    os._exit(0)


def lease(folder: Path) -> None:
    """Hold a branch while the clock jumps, and see whether another process of this host gets it."""
    log = eventlog.open(folder / "log.db")
    held = log.writer.take_lease(RUN)
    refused: list[bool] = []
    for jump in (HOUR, -2 * HOUR):
        shim.set_clock(jump)
        pid = os.fork()
        if pid == 0:
            os._exit(take(folder))
        refused.append(os.waitpid(pid, 0)[1] != 0)
        log.append("test.mine", {"n": 1}, run=RUN)
    shim.set_clock(0)
    say(folder, log, refused=refused, lost=held.is_lost)
    log.close()


def take(folder: Path) -> int:
    """Try to take the branch; returns 0 if that works."""
    with eventlog.open(folder / "log.db") as log:
        try:
            log.writer.take_lease(RUN)
        except RunBusyError:
            return 1
    return 0
