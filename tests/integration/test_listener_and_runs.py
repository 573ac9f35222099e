"""A listener and named runs on the same file: each kickoff is where its context says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from crewai import Crew, Task

import eventlog
from tests.scenarios import World


def crew(name: str) -> Crew:
    """Return a crew of one task."""
    agent = World().agent(name)
    return Crew(name=name, agents=[agent], tasks=[Task(description="d", expected_output="e", agent=agent)])


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[eventlog.EventLogListener]:
    """A listener made in the test's own context."""
    made = eventlog.EventLogListener(tmp_path / "x.db", signals=False)
    yield made
    made.close()


def crews_of_runs(log: eventlog.Log) -> dict[str, list[str]]:
    """Return which crews each named run holds; all other runs under one name."""
    found: dict[str, list[str]] = {}
    for info in log.runs():
        name = info.run if info.attribution == "named" else "own"
        found.setdefault(name, []).extend(e.name for e in log.executions(info.run))
    return {name: sorted(crews) for name, crews in found.items()}


def test_crews_outside_a_named_run_never_fall_into_the_one_that_is_open(listener: eventlog.EventLogListener) -> None:
    """Five crews at once, one of them named: four runs of their own."""

    async def named() -> None:
        with listener.log.run("named"):
            await crew("inside").akickoff()

    async def all_at_once() -> None:
        await asyncio.gather(named(), *(crew(f"outside{n}").akickoff() for n in range(4)))

    asyncio.run(all_at_once())
    events = list(listener.log.events())

    assert crews_of_runs(listener.log) == {"named": ["inside"], "own": [f"outside{n}" for n in range(4)]}
    assert listener.log.status().failed == 0
    assert {e.run for e in events if e.path == ""} <= {i.run for i in listener.log.runs()} | {None}


def test_a_raw_thread_started_in_a_named_run_belongs_to_it(listener: eventlog.EventLogListener) -> None:
    """A raw thread has no context; the only run that is open is the best guess there is."""
    with listener.log.run("named"):
        thread = threading.Thread(target=crew("inside").kickoff)
        thread.start()
        thread.join()

    assert crews_of_runs(listener.log) == {"named": ["inside"]}


def test_a_kickoff_after_the_named_run_is_a_run_of_its_own(listener: eventlog.EventLogListener) -> None:
    """Leaving the block ends it."""
    with listener.log.run("named"):
        crew("inside").kickoff()
    crew("after").kickoff()

    assert crews_of_runs(listener.log) == {"named": ["inside"], "own": ["after"]}


def test_a_run_of_own_events_only_ends_completed(tmp_path: Path) -> None:
    """Nothing was started, so nothing was interrupted."""
    with eventlog.open(tmp_path / "x.db") as log:
        with log.run("notes") as run:
            run.append("a.b")
            during = log.state("notes").status

        assert during == "running"
        assert log.state("notes").status == "completed"
        assert [r.status for r in log.runs()] == ["completed"]
