"""Forks a child for every case it is asked for, and says how the child ended.

CrewAI takes seconds to load, a fork of a process that has loaded it takes none; nothing has been
emitted and no log opened before the fork, so each child is as good as a fresh process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path


def main() -> None:
    """Read cases from stdin, one JSON object a line, until it ends; write number and end of each to stdout."""
    for number, line in enumerate(sys.stdin, 1):
        case = json.loads(line)
        module = import_module(f"tests.crash.children.{case['module']}")
        getattr(module, "prepare", int)()
        pid = os.fork()
        if pid == 0:
            become(Path(case["folder"]))
            getattr(module, case["name"])(Path(case["folder"]), **case["options"])
            return  # the child ends as a program ends, with its exit handlers
        sys.stdout.write(json.dumps([number, wait(pid, case["timeout"])]) + "\n")
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
