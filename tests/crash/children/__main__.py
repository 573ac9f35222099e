"""Forks a child for every case it is asked for, and says how the child ended.

CrewAI takes seconds to load, a fork of a process that has loaded it takes none; nothing has been
emitted and no log opened before the fork, so each child is as good as a fresh process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from tests.crash.children import clocks, crowds, deaths, disks, forks, leases, moves, resumes, signals, timers

MODULES = {
    module.__name__.rpartition(".")[2]: module
    for module in (clocks, crowds, deaths, disks, forks, leases, moves, resumes, signals, timers)
}


def main() -> None:
    """Read cases from stdin, one JSON object a line, until it ends; write wait statuses to stdout."""
    for line in sys.stdin:
        case = json.loads(line)
        getattr(MODULES[case["module"]], "prepare", int)()
        pid = os.fork()
        if pid == 0:
            become(Path(case["folder"]))
            getattr(MODULES[case["module"]], case["name"])(Path(case["folder"]), **case["options"])
            return  # the child ends as a program ends, with its exit handlers
        sys.stdout.write(json.dumps(wait(pid, case["timeout"])) + "\n")
        sys.stdout.flush()


def become(folder: Path) -> None:
    """Stand on our own feet: own files instead of the parent's pipes, own storage."""
    os.environ["CREWAI_STORAGE_DIR"] = str(folder / "crewai")
    for number, name in ((0, os.devnull), (1, str(folder / "stdout")), (2, str(folder / "stderr"))):
        target = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(target, number)
        os.close(target)


def wait(pid: int, timeout: float) -> int | None:
    """Return the exit code (negative: the signal), or nothing if the child hung and had to be killed."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return None


main()
