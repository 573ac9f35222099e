"""A published tutorial on long pipelines, killed after every step and started again: it says what its text promises."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import eventlog
from eventlog.errors import LogOpenError
from tests.cli_world import ROOT, environment
from tests.crash.conftest import Nursery
from tests.verifying import problems

ITEMS = (
    "scan-dependencies analyze-auth-module analyze-api-endpoints analyze-data-layer generate-fix-auth"
    " generate-fix-api generate-fix-data verify-fixes compile-report"
).split()
WARNING = "Warning: 1 features not fully verified"


def start(nursery: Nursery, folder: Path, **kill: Any) -> list[str]:
    """Run the program until it is killed, or to its end, and return what it printed."""
    (folder / "stdout").unlink(missing_ok=True)
    code = nursery.run("tutorials", "tutorial", folder, **kill)

    assert code == (-signal.SIGKILL if kill else 0)
    return (folder / "stdout").read_text().splitlines()


def assert_resumed(said: list[str], done: int) -> None:
    """It tells how much is done, and skips exactly that; when all is done it does not begin."""
    skipped = [line for line in said if line.startswith("Skipping")]

    assert said[0] == f"Resuming audit. {done}/9 steps completed."
    if done == len(ITEMS):
        assert (skipped, said[2]) == ([], "Audit already completed!")
    else:
        assert skipped == [f"Skipping {item} -- already completed" for item in ITEMS[:done]]


POINTS: dict[str, list[dict[str, Any]]] = {
    "in a step": [{"call": 1}, *[{"call": 2}] * 8],
    "before the summary": [{"method": "mark_complete", "nth": 1}] * 9,
    "after the summary": [{"method": "update_session", "nth": 4}, *[{"method": "update_session", "nth": 3}] * 8],
}
"""Where a start is killed, in turn; the first one also writes how the session begins."""
HALVES = {"in a step": 1}
"""Steps that were begun when the program was killed, and not done."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", POINTS)
def test_the_tutorial_goes_on_after_a_kill_at_every_step(nursery: Nursery, tmp_path: Path, point: str) -> None:
    """Whether a step is under way, marked complete only, or its summary written: k of 9 are done, and just those.

    Seeded once: a ``mark_complete`` whose event is lost; a ``set_in_progress`` that completes.
    """
    half = HALVES.get(point, 0)
    for killed, kill in enumerate(POINTS[point]):
        said = start(nursery, tmp_path, **kill)

        if killed == 0:
            assert said[0] == "Starting fresh audit"
        else:
            assert_resumed(said, killed - half)
    said = start(nursery, tmp_path)

    assert_resumed(said, len(ITEMS) - half)
    assert said[-1] == WARNING
    assert list(problems(tmp_path / "log.db")) == []


@pytest.mark.timeout(120)
def test_the_tutorial_goes_on_after_a_kill_between_its_features(nursery: Nursery, tmp_path: Path) -> None:
    """What was said of features is said again at the next start, and changes nothing that is there already."""
    kills = [("create_feature", 1), ("create_feature", 2), ("update_feature", 1), ("mark_feature_complete", 1)]
    for method, nth in kills:
        start(nursery, tmp_path, method=method, nth=nth)
    said = start(nursery, tmp_path)
    with eventlog.open(tmp_path / "log.db", readonly=True) as log:
        defined = [event for event in log.events("audit-2026-01-15") if event.type == "eventlog.feature_defined"]

    assert "auth-hardening: completed" in said
    assert said[-1] == WARNING
    assert len(defined) == 2


@pytest.mark.timeout(120)
def test_the_tutorial_goes_on_in_a_process_of_its_own(tmp_path: Path) -> None:
    """As a person types it: from a cold start, killed in the third step by nobody in the program itself."""
    env = environment(EVENTLOG_DB=str(tmp_path / "log.db"), CREWAI_STORAGE_DIR=str(tmp_path / "crewai"))
    command = [sys.executable, "-m", "tests.integration.aegis_tutorial"]
    with subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        wait_for_items(tmp_path / "log.db", 2)
        child.kill()
    said = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
    done = int(said.stdout.split("Resuming audit. ")[1][0])

    assert done >= 2
    assert_resumed(said.stdout.splitlines(), done)
    assert said.stdout.splitlines()[-1] == WARNING
    assert said.stderr.count("eventlog.aegis: ") == 1


def wait_for_items(path: Path, count: int) -> None:
    """Return once so many items of the session are completed."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and path.stat().st_size:
            with suppress(LogOpenError), eventlog.open(path, readonly=True) as log:
                if len(log.ledger("audit-2026-01-15").session().completed_items) >= count:
                    return
        time.sleep(0.01)
    pytest.fail("the program does not get on")
