"""Every way of using CrewAI, recorded once, is executed again from the record alone and does the same."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

import eventlog
from eventlog.resume.reexecute import RunReexecutor
from tests.integration.resuming import RUN, Seen, cuts, record_whole, resume
from tests.scenarios import SHAPES, Scenario, build, texts
from tests.torture import drawn

KICKOFFS = [name for name in SHAPES if not name.startswith("llm_")]
UNTOUCHED = (0, 0, 0, 0, 0)
CUTS = 3
"""Interrupted and resumed runs for each shape; in ``make torture`` other ones each time."""

pytestmark = pytest.mark.timeout(300)


def rows(path: Path) -> list[Any]:
    """Return all events of a log, byte by byte."""
    with sqlite3.connect(path) as db:
        return db.execute("SELECT * FROM events ORDER BY seq").fetchall()


def touched(scenario: Scenario) -> tuple[int, ...]:
    """Return how often the world was: models, token counts, tools, people, memories."""
    world = scenario.world
    saves = len(world.store.saves) if world.store is not None else 0
    return world.llm_calls, world.token_counts, len(world.tool_runs), len(world.questions), saves


def again(seen: Seen) -> tuple[RunReexecutor, Scenario, list[str]]:
    """Execute a recorded scenario again, with fresh objects; return the texts of its result as well."""
    scenario = build(seen.name)
    with eventlog.open(seen.file, readonly=True) as log, log.reexecuting(RUN) as session:
        try:
            result = texts(scenario.start())
        except Exception as error:
            result = [f"{type(error).__name__}: {error}"]
    return session, scenario, result


def outcome(seen: Seen) -> list[str]:
    """Return the same of the recorded one."""
    return texts(seen.result) if seen.error is None else [f"{type(seen.error).__name__}: {seen.error}"]


@pytest.mark.parametrize("name", SHAPES)
def test_a_scenario_does_the_same_again_without_the_world(name: str, tmp_path: Path) -> None:
    """Nobody is asked, every event comes again, the output is equal, and the log stays as it is."""
    whole = record_whole(name, tmp_path)
    before = rows(whole.file)

    session, scenario, result = again(whole)

    assert [str(result) for result in session.outcomes if not result] == []
    assert session.ok
    assert touched(scenario) == UNTOUCHED
    assert result == outcome(whole)
    assert [result.changed for result in session.results if result.changed] == []
    assert rows(whole.file) == before


@pytest.mark.torture
@pytest.mark.parametrize("name", drawn("reexecute", KICKOFFS[::2], 12, KICKOFFS))
def test_an_interrupted_and_resumed_run_does_the_same_as_a_whole_one(name: str, tmp_path: Path) -> None:
    """What the stretches of several processes tell together is one logical history."""
    whole = record_whole(name, tmp_path)

    known = cuts(whole, CUTS)
    known += [e.seq for e in whole.events if e.payload.get("failed") or e.payload.get("error")][:CUTS]
    for seq in known[1 :: max(1, len(known) // CUTS)]:
        resumed = resume(whole, seq, tmp_path)
        session, scenario, result = again(resumed)
        assert [f"cut after {seq}: {result}" for result in session.outcomes if not result] == []
        assert session.ok
        assert touched(scenario) == UNTOUCHED
        assert result == outcome(resumed)
