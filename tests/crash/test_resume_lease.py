"""A process that was stopped in the middle of its kickoff and wakes up after another one took the run over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import eventlog
from eventlog.errors import EventLogError, RunBusyError
from tests.scenarios import World, build
from tests.verifying import problems

ROOT = Path(__file__).parents[2]
WORKER = """
import sys
import eventlog
from eventlog.resume.divergence import RunTakenOverError
from tests.scenarios import World, build
scenario = build("sequential_react", World(delay=0.3))
with eventlog.open(sys.argv[1]) as log:
    try:
        log.run("r").kickoff(scenario.subject, inputs=scenario.inputs)
    except RunTakenOverError as error:
        print("taken over", scenario.world.llm_calls, len(scenario.world.tool_runs))
"""


def wait_for(path: Path, event_type: str, count: int) -> None:
    """Wait until the log holds so many events of a type."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists():
            try:
                with eventlog.open(path, readonly=True) as log:
                    if len(list(log.events("r", types=[event_type]))) >= count:
                        return
            except EventLogError:  # the file is just being made
                pass
        time.sleep(0.05)
    pytest.fail(f"no {event_type} came")


def test_a_stale_kickoff_stops_at_its_next_boundary_and_harms_nobody(tmp_path: Path) -> None:
    """The owner is stopped while its model thinks; another process takes the run and ends it; the first wakes up.

    It gets no further than the end of the call it was in, and what it says then stands on a branch of its own.
    Seen to fail: when the player does not ask for the lease, the stale kickoff goes on to its end.
    """
    path = tmp_path / "log.db"
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        wait_for(path, "llm_call_started", 2)
        os.kill(worker.pid, signal.SIGSTOP)
        scenario = build("sequential_react", World())
        with eventlog.open(path) as log:
            with pytest.raises(RunBusyError, match=str(worker.pid)):
                log.run("r").kickoff(scenario.subject, inputs=scenario.inputs)
            result = log.run("r", takeover=True).kickoff(scenario.subject, inputs=scenario.inputs)
            ours = [(event.seq, event.type) for event in log.events("r")]
        os.kill(worker.pid, signal.SIGCONT)
        said, _ = worker.communicate(timeout=60)
    finally:
        worker.kill()
        worker.wait()

    assert "taken over 2" in said
    assert scenario.world.llm_calls == 5
    with eventlog.open(path, readonly=True) as log:
        assert log.state("r").status == "completed"
        assert [(event.seq, event.type) for event in log.events("r")] == ours
        stale = [branch for branch in log.branches("r") if branch.branch.startswith("stale/")]
        assert [branch.events > 0 for branch in stale] == [True]
    assert list(problems(path)) == []
    again = build("sequential_react", World())
    with eventlog.open(path) as log:
        assert log.run("r").kickoff(again.subject, inputs=again.inputs) == result
    assert again.world.llm_calls == 0
