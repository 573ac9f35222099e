"""Processes that may die: one nursery for all tests, which forks a child per case."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.crash import shim

ROOT = Path(__file__).parents[2]
EMIT_S_MAX = 1.5
"""Of an emit while its log is in trouble, on a machine that has much else to do; who waits for a lock waits 5 s."""


class Nursery:
    """Runs cases of ``tests/crash/children`` in processes of their own."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """Start the process that the children are forked from; ``environment`` is added to ours."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.children"],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._cases = 0

    def start(self, module: str, name: str, folder: Path, *, timeout: float = 100, **options: Any) -> None:
        """Begin a case and come back at once."""
        self._cases += 1
        case = {"module": module, "name": name, "folder": str(folder), "timeout": timeout, "options": options}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(case) + "\n")
        self._process.stdin.flush()

    def result(self) -> int | None:
        """Wait for the end of the newest case; returns its exit code, negative for a signal, nothing if it hung."""
        assert self._process.stdout is not None
        number, code = 0, None
        while number < self._cases:  # a test that failed may not have waited for its case
            number, code = json.loads(self._process.stdout.readline())
        return code

    def run(self, module: str, name: str, folder: Path, **options: Any) -> int | None:
        """Run a case to its end; see ``result``. What it printed to stderr goes to the test's."""
        self.start(module, name, folder, **options)
        code = self.result()
        sys.stderr.write((folder / "stderr").read_text()[-5000:])
        return code

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Yield the nursery."""
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Yield a nursery whose children can have the disk fail under every file called ``log.db…``."""
    made = shim.build(tmp_path_factory.mktemp("shim"))
    if isinstance(made, str):
        pytest.skip(made)
    nursery = Nursery(made.environment("log.db"))
    yield nursery
    nursery.close()
