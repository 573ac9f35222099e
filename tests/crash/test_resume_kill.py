"""A program that is killed is just started again: it goes on, and what was answered is not asked again."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import eventlog
from tests.crash.conftest import Nursery
from tests.scenarios import SHAPES
from tests.torture import dice, drawn
from tests.verifying import problems

LANES = {
    "async_tasks": 3, "native_parallel_tools": 3, "kickoff_for_each_async": 3, "akickoff_for_each": 3,
    "flow_and_or": 2, "flow_async": 2,
}  # fmt: skip
"""How many things a shape does at the same time."""
FEW = (
    "sequential_native", "async_tasks", "hierarchical", "kickoff_for_each", "streaming", "flow_with_crew",
    "flow_ask", "agent_kickoff_native",
)  # fmt: skip
UNFIT = ("llm_call", "llm_acall", "failing_task", "remembering", "outage")
"""Not kicked off; ends in an error; keeps a memory or an outage that dies with the process."""
KILLED = drawn("resume killed", FEW, 5, [name for name in SHAPES if name not in UNFIT])
BATCH_LOSS = 3
"""Calls of one lane that the last batch may have held, at ``SLOW_S`` each."""
SLOW_S = 0.03


def touches(folder: Path) -> Counter[str]:
    """Return how often each part of the world was touched, over all processes."""
    return Counter((folder / "touches").read_text().split())


def report(folder: Path) -> dict[str, Any]:
    """Return what the program said at its end."""
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return {key: value for key, value in found.items() if key != "seconds"}


@pytest.fixture
def whole(nursery: Nursery, tmp_path: Path) -> Any:
    """Run a program without a kill; returns what it said and how it touched the world."""

    def run(shape: str, **options: Any) -> tuple[dict[str, Any], Counter[str]]:
        folder = tmp_path / "whole"
        folder.mkdir()
        assert nursery.run("resumes", "program", folder, shape=shape, **options) == 0
        return report(folder), touches(folder)

    return run


def assert_as_if_nothing_had_happened(
    folder: Path, expected: dict[str, Any], once: Counter[str], most_again: int, *, is_summed: bool = True
) -> None:
    """Compare with the program that was not killed; each kill may have cost what was under way."""
    found, said = touches(folder), report(folder)
    if not is_summed:
        said, expected = {**said, "tokens": ""}, {**expected, "tokens": ""}

    assert said == expected
    assert all(found[part] >= count for part, count in once.items()), (found, once)
    assert found.total() <= once.total() + most_again, (found, once)
    assert list(problems(folder / "log.db")) == []


@pytest.mark.torture
@pytest.mark.timeout(300)
@pytest.mark.parametrize("shape", KILLED)
def test_a_program_killed_three_times_ends_as_if_it_had_not_been(
    nursery: Nursery, whole: Any, tmp_path: Path, shape: str
) -> None:
    """The reason to use this package."""
    expected, once = whole(shape)
    rng = dice(f"killed thrice/{shape}")
    deaths = 0

    for _ in range(3):
        kill_at = rng.randint(1, max(1, once.total() // 2))
        code = nursery.run(
            "resumes", "program", tmp_path, shape=shape, kill_at=kill_at, when=rng.choice(("before", "after"))
        )
        assert code in (0, -signal.SIGKILL)
        deaths += code != 0
        with eventlog.open(tmp_path / "log.db", readonly=True) as log:
            assert [run.status for run in log.runs()] in ([["completed"]] if code == 0 else [["interrupted"], []])

    assert nursery.run("resumes", "program", tmp_path, shape=shape) == 0
    assert deaths > 0
    is_summed = "for_each" not in shape
    assert_as_if_nothing_had_happened(tmp_path, expected, once, deaths * LANES.get(shape, 1), is_summed=is_summed)


@pytest.mark.torture
@pytest.mark.parametrize(
    ("shape", "durability"), [("sequential_react", "commit"), ("async_tasks", "commit"), ("flow_with_crew", "batch")]
)
def test_a_program_killed_from_outside_ends_as_if_it_had_not_been(
    nursery: Nursery, whole: Any, tmp_path: Path, shape: str, durability: str
) -> None:
    """A kill from outside hits any instruction, also between an answer and its record."""
    expected, once = whole(shape, delay=SLOW_S, durability=durability)
    seconds = json.loads((tmp_path / "whole" / "report.json").read_text())["seconds"]
    rng = dice(f"killed from outside/{shape}/{durability}")
    options = {"shape": shape, "delay": SLOW_S, "durability": durability}

    for _ in range(3):
        kill_after(nursery, tmp_path, rng.uniform(0.1, 0.6) * seconds, options)

    assert nursery.run("resumes", "program", tmp_path, **options) == 0
    lost = 1 if durability == "commit" else 1 + BATCH_LOSS
    assert_as_if_nothing_had_happened(tmp_path, expected, once, 3 * lost * LANES.get(shape, 1))


def kill_after(nursery: Nursery, folder: Path, seconds: float, options: dict[str, Any]) -> None:
    """Start the program and kill it some time after it began; one that was faster has ended by itself."""
    (folder / "pid").unlink(missing_ok=True)
    nursery.start("resumes", "program", folder, **options)
    deadline = time.monotonic() + 60
    while not (folder / "pid").exists() or not (folder / "pid").read_text():
        assert time.monotonic() < deadline, (folder / "stderr").read_text()[-2000:]
        time.sleep(0.002)
    time.sleep(seconds)
    with suppress(ProcessLookupError):
        os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    assert nursery.result() in (0, -signal.SIGKILL)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_batch_that_was_lost_is_asked_for_again(nursery: Nursery, whole: Any, tmp_path: Path, when: str) -> None:
    """In ``batch`` mode the last moments are not on record: they happen again, and nothing else does."""
    expected, once = whole("sequential_native", delay=SLOW_S, durability="batch")
    options = {"shape": "sequential_native", "delay": SLOW_S, "durability": "batch"}

    for kill_at in (3, 4):
        assert nursery.run("resumes", "program", tmp_path, kill_at=kill_at, when=when, **options) == -signal.SIGKILL

    assert nursery.run("resumes", "program", tmp_path, **options) == 0
    assert_as_if_nothing_had_happened(tmp_path, expected, once, 2 * (1 + BATCH_LOSS))
