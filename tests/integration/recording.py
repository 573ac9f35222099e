"""Run a scenario once with a log and the oracle beside it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec

import eventlog
from eventlog.record import Event
from tests.integration.oracle import Oracle, WatchedLLM
from tests.scenarios import Scenario, World, build

CONCURRENT = frozenset(
    ("kickoff_for_each_async", "akickoff_for_each", "native_parallel_tools", "async_tasks", "flow_and_or")
)
"""Scenarios in which something runs beside the thread that emits."""


class Recorded(msgspec.Struct, frozen=True):
    """A scenario that ran, what the log has of it and what the oracle saw."""

    scenario: Scenario
    log: eventlog.Log
    run: str
    events: list[Event]
    oracle: Oracle


def start(scenario: Scenario) -> None:
    """Run a scenario; one that raises as announced is fine."""
    with suppress(*([scenario.raises] if scenario.raises else [])):
        scenario.start()


def record(name: str, folder: Path, **llm_options: object) -> Recorded:
    """Record a scenario as the run ``r`` of a new log, which stays open."""
    scenario = build(name, World(WatchedLLM, **llm_options))
    oracle = Oracle(scenario.world)
    log = eventlog.open(folder / "log.db")
    with oracle.watching(), log.run("r"):
        start(scenario)
    return Recorded(scenario, log, "r", list(log.events("r")), oracle)
