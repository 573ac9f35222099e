"""How often a test that depends on chance does so: a little in ``make test``, long and with other seeds here.

``python -m tests.torture --seconds 600`` runs the tests marked ``torture`` again and again, each round with another
seed, until the time is over or one fails; then it prints the command that repeats the failure.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

TORTURE = os.environ.get("EVENTLOG_TORTURE") == "1"
SEED = os.environ.get("EVENTLOG_SEED", "1")
"""Any text; a failure is repeated with the seed it had."""

T = TypeVar("T")


def rounds(normal: int, torture: int) -> int:
    """Return how many to do."""
    return torture if TORTURE else normal


def dice(name: str) -> random.Random:
    """Return the random numbers of a test, the same for the same seed."""
    return random.Random(f"{SEED}/{name}")


def drawn(name: str, normal: Sequence[T], torture: int, every: Sequence[T]) -> list[T]:
    """Return the ``normal`` ones, or under torture so many of ``every`` one, others for another seed, in order."""
    if not TORTURE:
        return list(normal)
    places = dice(name).sample(range(len(every)), min(torture, len(every)))
    return [every[place] for place in sorted(places)]


# -- again and again ---------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[1]
LANES = min(2, os.cpu_count() or 1)
"""Files at the same time."""
USUAL_S = 60.0
"""About how long a file takes, until it is known."""
LIMIT_S = 600.0
"""A file that takes longer hangs."""
GRACE_S = 30.0
"""How much later than asked for the end may be; what is not done by then is left undone."""
STOP_S = 10.0

_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+?\.py(?:::[^\[\s]+(?:\[.*?\])?)?)(?: - .*)?$", re.MULTILINE)
_COUNT = re.compile(r"(\d+) (passed|failed|errors?)\b")


class File:
    """One run of the tests of a file, in a process of its own."""

    def __init__(self, path: Path, seed: str) -> None:
        """Begin."""
        self.path, self.seed, self.began = path, seed, time.monotonic()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the object
        self._process = subprocess.Popen(
            [*self.command(str(path.relative_to(ROOT))), "-o", "tmp_path_retention_policy=failed"],
            cwd=ROOT, env={**os.environ, **self.environment()}, stdin=subprocess.DEVNULL, stdout=self._output,
            stderr=subprocess.STDOUT, start_new_session=True,  # Ctrl-C is for us
        )  # fmt: skip

    def environment(self) -> dict[str, str]:
        """Return what makes a test torture, and the same again."""
        return {"EVENTLOG_TORTURE": "1", "EVENTLOG_SEED": self.seed}

    @staticmethod
    def command(what: str) -> list[str]:
        """Return how to run the tests of a file, or one of them."""
        return [sys.executable, "-m", "pytest", "-q", "-m", "torture", "-p", "no:cacheprovider", what]

    @property
    def seconds(self) -> float:
        """How long it takes until now."""
        return time.monotonic() - self.began

    def ended(self) -> int | None:
        """Return the exit code, if it has ended."""
        return self._process.poll()

    def stop(self) -> None:
        """End it and all that it started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)

    def output(self) -> str:
        """Return what it printed."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def counts(self) -> dict[str, int]:
        """Return how many tests passed and failed."""
        last = (self.output().strip().splitlines() or [""])[-1]
        return {kind.removesuffix("s"): int(number) for number, kind in _COUNT.findall(last)}

    def again(self) -> str:
        """Return the command that repeats the first failure."""
        found = _FAILED.search(self.output())
        what = found[1] if found else str(self.path.relative_to(ROOT))
        return shlex.join(["env", *(f"{k}={v}" for k, v in self.environment().items()), *self.command(what)])


class Torture:
    """Rounds over all files until the time is over."""

    def __init__(self, seconds: float) -> None:
        """The time begins to run."""
        self._deadline = time.monotonic() + seconds
        self._running: list[File] = []
        self._took: dict[Path, float] = {}
        self._passed = self._undone = 0

    def left_s(self) -> float:
        """How much of the time is left."""
        return self._deadline - time.monotonic()

    def run(self) -> int:
        """Return the exit code: 1 if a test failed."""
        number = 0
        while any(self._has_time(path) for path in tortured()):
            number += 1
            seed = str(secrets.randbelow(10**9))
            self._passed = self._undone = 0
            failed = self._round(seed)
            rest = f", {self._undone} files not run" if self._undone else ""
            failures = max(1, failed.counts().get("failed", 0)) if failed is not None else 0
            counts = f"{self._passed} passed, {failures} failed{rest}"
            say(f"round {number}, seed {seed}: {counts}, {max(self.left_s(), 0):.0f} s left")
            if failed is not None:
                say(failed.output()[-8000:], f"\n{failed.path.relative_to(ROOT)} failed. The same again:\n")
                say(failed.again())
                return 1
        return 0

    def _round(self, seed: str) -> File | None:
        """Run each file once, for which there is time; returns the one that failed."""
        waiting = tortured()
        random.Random(seed).shuffle(waiting)
        try:
            while waiting or self._running:
                self._start(waiting, seed)
                failed = self._look()
                if failed is not None:
                    return failed
                time.sleep(0.05)
        finally:
            for file in self._running:
                file.stop()
            self._running.clear()
        return None

    def _start(self, waiting: list[Path], seed: str) -> None:
        """Start what there is room and time for."""
        while waiting and len(self._running) < LANES:
            path = waiting.pop()
            if self._has_time(path):
                self._running.append(File(path, seed))
            else:
                self._undone += 1

    def _has_time(self, path: Path) -> bool:
        """Whether a file can be expected to be done in time."""
        return self.left_s() > 0 and self._took.get(path, USUAL_S) <= self.left_s() + GRACE_S

    def _look(self) -> File | None:
        """Take off what has ended, and what is not done in time; returns what failed."""
        for file in list(self._running):
            code = file.ended()
            if code is None and file.seconds < LIMIT_S and self.left_s() > -GRACE_S:
                continue
            if code is None:
                file.stop()
            self._running.remove(file)
            if code or file.seconds >= LIMIT_S:
                return file
            self._took[file.path] = file.seconds
            self._passed += file.counts().get("passed", 0)
            self._undone += code is None
        return None


def tortured() -> list[Path]:
    """Return the files with tests that are to be tortured."""
    return [path for path in sorted(ROOT.glob("tests/*/test_*.py")) if "pytest.mark.torture" in path.read_text("utf-8")]


def say(*texts: Any) -> None:
    """Print at once."""
    sys.stdout.write(" ".join(map(str, texts)) + "\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code: 1 if a test failed, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600, help="how long (default: 600)")
    try:
        return Torture(parser.parse_args(arguments).seconds).run()
    except KeyboardInterrupt:
        say("stopped")
        return 130


if __name__ == "__main__":
    sys.exit(main())
