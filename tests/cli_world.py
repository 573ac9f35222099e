"""The command line as a test uses it: in this process, or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from eventlog.cli.main import run

ROOT = Path(__file__).parents[1]
DEMO_CREW = ROOT / "cli" / "demo_crew.py"
COMMAND = [sys.executable, "-m", "eventlog.cli"]
RUN = "tea"


@dataclass
class Result:
    """What a command line did."""

    code: int
    out: str
    err: str


class Cli:
    """Runs command lines in this process against one log."""

    def __init__(self, db: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.db, self._capsys = db, capsys

    def __call__(self, *args: object) -> Result:
        """Run ``eventlog ARGS --db DB``; what stands behind ``--`` stays there."""
        self._capsys.readouterr()
        words = [*map(str, args)]
        place = words.index("--") if "--" in words else len(words)
        code = run([*words[:place], "--db", str(self.db), *words[place:]])
        captured = self._capsys.readouterr()
        return Result(code, captured.out, captured.err)


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a child process that finds this tree."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **more}


def start(*args: object, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
    """Start ``eventlog ARGS`` in a process of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8", **options}
    return subprocess.Popen([*COMMAND, *map(str, args)], env=env or environment(), **pipes)


def finish(*args: object, env: dict[str, str] | None = None, **options: Any) -> Result:
    """Run ``eventlog ARGS`` in a process of its own to its end."""
    child = start(*args, env=env, **options)
    out, err = child.communicate(timeout=100)
    return Result(child.returncode, out, err)
