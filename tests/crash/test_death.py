"""However a process dies, the log holds what its durability mode promises, and the run says how it ended."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

import eventlog
from tests.crash.conftest import Nursery
from tests.verifying import missing, numbers, problems, query

ENDINGS = {
    "exit": (0, "completed"),
    "exception": (1, "failed"),
    "sys_exit": (3, "interrupted"),
    "sigterm": (-signal.SIGTERM, "interrupted"),
    "sigint": (-signal.SIGINT, "interrupted"),
    "sigkill": (-signal.SIGKILL, "interrupted"),
    "os_exit": (7, "interrupted"),
}
"""Exit code and status of the run."""

RUNS_EXIT_HANDLERS = ("exit", "exception", "sys_exit", "sigint")
BATCH_MS = 50
SLACK_MS = 100
"""The commit itself, on a busy machine."""


def witnessed(folder: Path, before_ns: int | None = None) -> list[str]:
    """Return the ids of the events whose emit returned, before a moment if one is given."""
    lines = [line.split() for line in (folder / "witness").read_text().splitlines()]
    return [event_id for event_id, at_ns in lines if before_ns is None or int(at_ns) < before_ns]


def status_of_only_run(folder: Path) -> str:
    """Return how the run reads now that its process is gone."""
    with eventlog.open(folder / "log.db", readonly=True) as log:
        (run,) = log.runs()
        assert log.state(run.run).status == run.status
        return run.status


@pytest.mark.parametrize(
    ("death", "durability"), [*((death, "commit") for death in ENDINGS), ("exit", "fsync"), ("sigkill", "fsync")]
)
def test_nothing_is_lost_that_emit_returned_from(nursery: Nursery, tmp_path: Path, death: str, durability: str) -> None:
    """The promise of ``commit`` and ``fsync``. Seen to fail: with ``batch`` and 1,000 ms for sigkill and os_exit."""
    code = nursery.run("deaths", "crew", tmp_path, death=death, durability=durability)

    assert (code, status_of_only_run(tmp_path)) == ENDINGS[death]
    assert missing(witnessed(tmp_path), tmp_path / "log.db") == []
    assert list(problems(tmp_path / "log.db")) == []
    assert (99 in numbers(tmp_path / "log.db")) == (death in RUNS_EXIT_HANDLERS)


def test_nothing_is_lost_when_somebody_else_kills_us(nursery: Nursery, tmp_path: Path) -> None:
    """A kill from outside hits any instruction, also one of SQLite's."""
    nursery.start("deaths", "crew", tmp_path, death="outside", durability="commit")
    deadline = time.monotonic() + 20
    while not (tmp_path / "dying").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    with eventlog.open(tmp_path / "log.db", readonly=True) as log:
        (run,) = log.runs()
        assert run.status == "running"
        os.kill(owner(tmp_path / "log.db"), signal.SIGKILL)

    assert nursery.result() == -signal.SIGKILL
    assert status_of_only_run(tmp_path) == "interrupted"
    assert missing(witnessed(tmp_path), tmp_path / "log.db") == []
    assert list(problems(tmp_path / "log.db")) == []


def owner(path: Path) -> int:
    """Return the pid of the process that has the only branch of the only run open."""
    return int(query(path, "SELECT json_extract(owner, '$.pid') FROM branches WHERE id > 0")[0][0])


@pytest.mark.parametrize("death", RUNS_EXIT_HANDLERS)
def test_a_batch_is_written_when_the_interpreter_exits(nursery: Nursery, tmp_path: Path, death: str) -> None:
    """An orderly end loses nothing in any mode. Seen to fail: without the flush in ``leave_quietly``."""
    code = nursery.run("deaths", "crew", tmp_path, death=death, durability="batch", batch_ms=5000)

    assert (code, status_of_only_run(tmp_path)) == ENDINGS[death]
    assert missing(witnessed(tmp_path), tmp_path / "log.db") == []


def test_sigterm_writes_the_batch_first(nursery: Nursery, tmp_path: Path) -> None:
    """Our handler gets to run, so there is no reason to lose a batch.

    Seen to fail: without the flush in ``_default``.
    """
    code = nursery.run("deaths", "crew", tmp_path, death="sigterm", durability="batch", batch_ms=5000)

    assert code == -signal.SIGTERM
    assert missing(witnessed(tmp_path), tmp_path / "log.db") == []


@pytest.mark.parametrize("wait_s", [0.0, (BATCH_MS + SLACK_MS) / 1000])
def test_batch_mode_loses_at_most_the_last_batch(nursery: Nursery, tmp_path: Path, wait_s: float) -> None:
    """Its promise in milliseconds. Seen to fail: with a ``batch_ms`` of 1,000 in the child."""
    code = nursery.run("deaths", "burst", tmp_path, batch_ms=BATCH_MS, wait_s=wait_s)
    died_ns = int((tmp_path / "dying").read_text())

    assert code == -signal.SIGKILL
    assert missing(witnessed(tmp_path, died_ns - (BATCH_MS + SLACK_MS) * 1_000_000), tmp_path / "log.db") == []
    assert list(problems(tmp_path / "log.db")) == []
