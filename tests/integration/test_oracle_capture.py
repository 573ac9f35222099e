"""Every event that the bus emitted is in the log once, in order, in the right place: for every scenario.

The count is kept by a wrapper around ``emit`` and ``aemit`` that knows nothing of the log.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import eventlog
from eventlog.record import Event
from eventlog.replay.path import execution_of
from tests.integration.oracle import Oracle, Seen, WatchedLLM
from tests.integration.recording import record, start
from tests.scenarios import NAMES, World, build

COPIES = ("kickoff_for_each", "kickoff_for_each_async", "akickoff_for_each")
ORPHANS = ("flow_created", "default_env")
"""CrewAI emits them before the root they belong to."""


class Captured:
    """What was emitted and what the log has."""

    def __init__(self, name: str, oracle: Oracle, log: eventlog.Log) -> None:
        self.name, self.oracle = name, oracle
        self.runs = {info.run: list(log.events(info.run)) for info in log.runs()}
        self.events = list(log.events())
        self.executions = [info for run in self.runs for info in log.executions(run)]
        self.failed = log.status().failed


@pytest.fixture(scope="module")
def captured_so_far() -> dict[tuple[str, str], Captured]:
    """Each scenario runs once for all tests here."""
    return {}


@pytest.fixture(params=[(name, how) for name in NAMES for how in ("run", "listener")], ids="-".join)
def captured(
    request: pytest.FixtureRequest, captured_so_far: dict[tuple[str, str], Captured], tmp_path: Path
) -> Captured:
    """A scenario that ran inside ``log.run``, or under a listener without any code around the kickoff."""
    name, how = request.param
    if request.param not in captured_so_far:
        capture = in_run if how == "run" else under_listener
        captured_so_far[request.param] = capture(name, tmp_path)
    return captured_so_far[request.param]


def in_run(name: str, folder: Path) -> Captured:
    """Record as a named run."""
    recorded = record(name, folder)
    with recorded.log as log:
        return Captured(name, recorded.oracle, log)


def under_listener(name: str, folder: Path) -> Captured:
    """Record what happens in this process."""
    oracle = Oracle(World(WatchedLLM))
    with eventlog.open(folder / "log.db") as log:
        listener = eventlog.EventLogListener(log, signals=False)
        try:
            with oracle.watching():
                start(build(name, oracle.world))
        finally:
            listener.close()
        return Captured(name, oracle, log)


def test_every_event_is_in_the_log_exactly_once(captured: Captured) -> None:
    """Nothing is lost, nothing is there twice, nothing is invented but the library's own."""
    emitted = Counter((seen.event_id, seen.type) for seen in captured.oracle.seen)
    logged = Counter((e.event_id, e.type) for e in captured.events if not e.type.startswith("eventlog."))

    assert logged == emitted
    assert captured.failed == 0


def test_events_are_in_the_order_of_their_emission_in_every_thread(captured: Captured) -> None:
    """Concurrent threads may interleave; one thread's events never change places."""
    seqs = {event.event_id: event.seq for event in captured.events}
    threads: dict[int, list[Seen]] = {}
    for seen in captured.oracle.seen:
        threads.setdefault(seen.thread, []).append(seen)

    for seen_there in threads.values():
        assert [seqs[s.event_id] for s in seen_there] == sorted(seqs[s.event_id] for s in seen_there)


def test_links_lead_to_earlier_events_of_the_same_run(captured: Captured) -> None:
    """A parent is an event of the run, and stands before its children; so does what an ending event closes."""
    for events in captured.runs.values():
        seqs = {event.event_id: event.seq for event in events}
        for event in events:
            for link in (event.parent_event_id, event.started_event_id):
                assert link is None or seqs[link] <= event.seq


def test_an_event_lies_in_the_scope_of_its_parent(captured: Captured) -> None:
    """The path says the same as the links, so either can be used."""
    paths = {event.event_id: event.path for event in captured.events}
    for event in captured.events:
        parent = paths.get(event.parent_event_id or "", "")

        if event.started_event_id is None:
            assert event.path == parent or event.path.rpartition("/")[0] == parent
        elif captured.name != "failing_task":  # after an abort CrewAI names another scope
            assert event.path == paths[event.started_event_id]


def test_every_event_lies_in_the_execution_it_belongs_to(captured: Captured) -> None:
    """All of a kickoff share the beginning of their paths, and the index of kickoffs has that path."""
    known = {info.path for info in captured.executions}
    for event in captured.events:
        if captured.name in ("llm_call", "llm_acall") or event.type in ORPHANS:
            assert execution_of(event.path) == ""
        else:
            assert execution_of(event.path) in known


def test_every_kickoff_has_a_definition_and_the_status_it_ended_with(captured: Captured) -> None:
    """Also each copy of ``for_each``: all are kickoffs of their own."""
    defined = {event.path for event in captured.events if event.type == "eventlog.definition"}
    roots = [info for info in captured.executions if info.parent is None]
    wanted = "failed" if captured.name == "failing_task" else "completed"

    assert {info.path for info in captured.executions} <= defined
    assert {info.status for info in captured.executions} <= {wanted}
    assert len(roots) == (3 if captured.name in COPIES else 0 if captured.name in ("llm_call", "llm_acall") else 1)


def test_a_listener_makes_one_run_of_each_kickoff(captured: Captured) -> None:
    """What stands above every kickoff in one program is found apart in the list of runs."""
    roots = {run: {e.path.split("/")[1] for e in events if e.path} for run, events in captured.runs.items()}

    assert all(len(labels) <= 1 for labels in roots.values()) or "r" in roots
    assert all(_is_of(run, event) for run, events in captured.runs.items() for event in events)


def _is_of(run: str, event: Event) -> bool:
    """Whether an event says itself that it is of the run."""
    return (event.run, event.branch) == (run, "main")
