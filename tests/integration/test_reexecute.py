"""Every way of using CrewAI, recorded once, is executed again from the record alone and does the same."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import eventlog
from tests.scenarios import NAMES, Scenario, World, build, texts

OUTSIDE = ("llm_call", "llm_acall")
"""Scenarios without a kickoff."""


class ClosedWorld(World):
    """A world that must not be touched."""

    @property
    def touched(self) -> tuple[int, int, int, int]:
        """How often it was: models, token counts, tools, people."""
        return self.llm_calls, self.token_counts, len(self.tool_runs), len(self.questions)


UNTOUCHED = (0, 0, 0, 0)


def record(name: str, path: Path, **options: Any) -> list[str]:
    """Record a scenario as run ``r`` and return the texts of its result."""
    scenario = build(name, World(**options))
    with eventlog.open(path) as log, log.run("r") as run, run.directed():
        return outcome(scenario)


def outcome(scenario: Scenario) -> list[str]:
    """Run a scenario and return the texts of its result; none when it raises as announced."""
    with suppress(*([scenario.raises] if scenario.raises else [])):
        return texts(scenario.start())
    return []


def rows(path: Path) -> list[Any]:
    """Return all events of a log, byte by byte."""
    with sqlite3.connect(path) as db:
        return db.execute("SELECT * FROM events ORDER BY seq").fetchall()


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_does_the_same_again_without_the_world(name: str, tmp_path: Path) -> None:
    """Nobody is asked, every event comes again, the output is equal, and the log stays as it is."""
    path = tmp_path / "x.db"
    outputs = record(name, path)
    before = rows(path)
    world = ClosedWorld()
    scenario = build(name, world)

    with eventlog.open(path, readonly=True) as log, log.reexecuting("r") as again:
        now = outcome(scenario)

    assert [str(result) for result in again.results if not result] == []
    assert now == outputs
    assert again.ok
    assert [result.changed for result in again.results if result.changed] == []
    assert len(again.results) == (0 if name in OUTSIDE else 3 if "for_each" in name else 1)
    assert (again.served.llm, again.served.tools) == (scenario.llm_calls, scenario.tool_runs)
    assert again.served.human == scenario.questions
    assert world.touched == UNTOUCHED
    assert rows(path) == before
