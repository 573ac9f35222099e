"""The same program in another process is told by the same paths and the same request names.

Whatever resumes or re-executes finds what was recorded by these two. Ids, addresses in memory and the order of
hashing differ between the two processes; nothing else does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import eventlog
from eventlog.record import Event
from eventlog.requests import MESSAGE_KEYS
from tests.conftest import OFFLINE
from tests.integration.recording import CONCURRENT
from tests.scenarios import NAMES


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[Event]]]:
    """Events of every scenario by name, from each of two processes."""
    folder = tmp_path_factory.mktemp("processes")
    children = [_record_all(folder / f"{seed}.db", seed) for seed in ("1", "2")]
    for child in children:
        assert child.wait(timeout=100) == 0
    found = []
    for seed in ("1", "2"):
        with eventlog.open(folder / f"{seed}.db", readonly=True) as log:
            found.append({name: list(log.events(name)) for name in NAMES})
    return found


def _record_all(path: Path, seed: str) -> subprocess.Popen[bytes]:
    """Start a process that records all scenarios, with a hash seed of its own."""
    storage = str(path.with_suffix(".crewai"))
    environment = {**os.environ, **OFFLINE, "CREWAI_STORAGE_DIR": storage, "PYTHONHASHSEED": seed}
    command = [sys.executable, "-m", "tests.integration.children", str(path), *NAMES]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("name", NAMES)
def test_paths_are_the_same_in_another_process(processes: list[dict[str, list[Event]]], name: str) -> None:
    """Ordinals count siblings of one label, so branches that run at the same time do not change each other's."""
    first, second = (_places(name, events[name]) for events in processes)

    assert first == second


def _places(name: str, events: list[Event]) -> Counter[tuple[str, str]]:
    """Return place and type of every event; how many samples a state takes depends on the timing of threads."""
    sampled = "eventlog.flow_state" if name in CONCURRENT else None
    return Counter((event.path, event.type) for event in events if event.type != sampled)


@pytest.mark.parametrize("name", NAMES)
def test_requests_have_the_same_name_in_another_process(processes: list[dict[str, list[Event]]], name: str) -> None:
    """Also the planner's, which is shown the tools with their addresses in memory."""
    first, second = (_requests(events[name]) for events in processes)

    assert first == second
    assert None not in {request for _, request in first}


def _requests(events: list[Event]) -> Counter[tuple[str, str]]:
    """Return place and name of every request to an LLM."""
    return Counter((e.path, e.payload["request"]) for e in events if e.type == "eventlog.llm_exchange")


@pytest.mark.parametrize("name", NAMES)
def test_different_requests_have_different_names(processes: list[dict[str, list[Event]]], name: str) -> None:
    """Two requests with one name would get each other's answers: what they ask must be the same."""
    events = {event.event_id: event for event in processes[0][name]}
    asked: dict[str, list[Any]] = {}
    for exchange in (e for e in events.values() if e.type == "eventlog.llm_exchange"):
        ended = events[exchange.payload.get("completed") or exchange.payload["failed"]]
        started = events[ended.started_event_id or ""].payload
        question = [_as_seen(message) for message in started["messages"]]

        assert asked.setdefault(exchange.payload["request"], question) == question
    assert len(asked) == len({str(question) for question in asked.values()})


def _as_seen(message: Any) -> Any:
    """Return what of a message the model sees."""
    return {key: message[key] for key in MESSAGE_KEYS if message.get(key)} if isinstance(message, dict) else message


@pytest.mark.parametrize("name", NAMES)
def test_definitions_are_the_same_in_another_process(processes: list[dict[str, list[Event]]], name: str) -> None:
    """They tell whether the program changed since; ids are new each time and stand apart."""
    first, second = (_definitions(events[name]) for events in processes)

    assert first == second


def _definitions(events: list[Event]) -> list[tuple[str, Any, Any]]:
    """Return place, key and content of every definition."""
    found = [e for e in events if e.type == "eventlog.definition"]
    return sorted(((e.path, e.payload["key"], e.payload["definition"]) for e in found), key=lambda d: d[0])
