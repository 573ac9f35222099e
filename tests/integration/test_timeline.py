"""Recorded events once more, for listeners."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from crewai.events import LLMCallCompletedEvent, TaskCompletedEvent, TaskStartedEvent
from crewai.events.base_events import BaseEvent
from crewai.events.event_bus import crewai_event_bus as bus
from crewai.events.event_bus import is_replaying
from crewai.tasks.task_output import TaskOutput

import eventlog
from eventlog.record import Event
from eventlog.replay.timeline import live_event, play_events, without_other_listeners
from tests.cli_world import RUN, Cli, finish


@pytest.fixture
def events(db: Path) -> Iterator[list[Event]]:
    """The events of the recorded run."""
    with eventlog.open(db, readonly=True) as log:
        yield list(log.events(RUN))


def made(event_type: str, payload: dict[str, Any] | None = None, at_s: float = 0) -> Event:
    """Return an event that never happened."""
    return Event(
        seq=1, event_id="id-1", type=event_type, at_ns=int(at_s * 1e9), run="r", branch="main", payload=payload or {}
    )


def test_listeners_get_live_classes_with_the_recorded_ids_in_order(events: list[Event]) -> None:
    """What a listener does with an event of today it can do with one of last year."""
    heard: list[Any] = []
    with without_other_listeners():
        bus.on(TaskStartedEvent)(lambda source, event: heard.append((source, event, is_replaying())))
        bus.on(TaskCompletedEvent)(lambda source, event: heard.append((source, event, is_replaying())))
        result = play_events(events)
    recorded = [event for event in events if event.type in ("task_started", "task_completed")]
    live = [event for _, event, _ in heard]

    assert [event.event_id for event in live] == [event.event_id for event in recorded]
    assert [event.parent_event_id for event in live] == [event.parent_event_id for event in recorded]
    assert [source.path for source, _, _ in heard] == [event.path for event in recorded]
    assert all(flag for _, _, flag in heard)
    assert isinstance(live[1].output, TaskOutput)
    assert live[1].output.raw.startswith("Sencha costs")
    assert live[1].task.name == "prices"
    assert result.events - result.unheard == len(heard)
    assert result.unknown_types == {}


def test_each_events_handlers_are_done_before_the_next(events: list[Event]) -> None:
    """Handlers run in a pool of threads; a slow one must not be overtaken."""
    import time

    done: list[str] = []

    def slow(_source: Any, event: Any) -> None:
        time.sleep(0.02 if len(done) % 2 == 0 else 0)
        done.append(event.event_id)

    with without_other_listeners():
        bus.on(LLMCallCompletedEvent)(slow)
        play_events(events)

    assert done == [event.event_id for event in events if event.type == "llm_call_completed"]


def test_nobody_else_listens_meanwhile(events: list[Event], capfd: pytest.CaptureFixture[str]) -> None:
    """CrewAI's own listeners would print, trace and report old events as new; afterwards they are back."""
    before = {cls: set(handlers) for cls, handlers in bus._sync_handlers.items() if handlers}
    with without_other_listeners():
        result = play_events(events)

    assert result.unheard == result.events > 0
    assert {cls: set(handlers) for cls, handlers in bus._sync_handlers.items() if handlers} == before
    assert capfd.readouterr().out == ""


def test_playing_waits_as_long_as_recorded_divided_by_the_speed() -> None:
    """Not for days, though: a run may have rested."""
    waits: list[float] = []
    played = [made("task_started", at_s=at) for at in (0, 1, 3, 2, 90_000)]

    play_events(played, speed=2, sleep=waits.append)
    play_events(played, speed=0, sleep=lambda _: pytest.fail("0 means without waiting"))

    assert waits == [0.5, 1.0, 0, 5.0]


def test_types_nobody_knows_become_bare_events() -> None:
    """Of a newer CrewAI, or of classes this process does not have."""
    event = live_event(made("surprise", {"number": 7, "task_id": "from the payload"}, at_s=1))
    result = play_events([made("surprise"), made("surprise"), made("eventlog.llm_exchange")])

    assert type(event) is BaseEvent
    assert (event.type, event.event_id, event.task_id) == ("surprise", "id-1", None)
    assert event.number == 7  # type: ignore[attr-defined]
    assert event.timestamp == datetime.fromtimestamp(1, tz=timezone.utc)
    assert (result.events, result.unknown_types) == (2, {"surprise": 2})


def test_classes_of_the_user_are_found_by_type() -> None:
    """As long as this process has defined them."""

    class LateEvent(BaseEvent):
        type: str = "late_for_the_timeline"
        note: str

    event = live_event(made("late_for_the_timeline", {"note": "hello"}))

    assert type(event) is LateEvent
    assert event.note == "hello"


def test_a_strange_file_imports_and_runs_nothing() -> None:
    """Names in a file are text."""
    hostile = {
        "output": {"$model": "antigravity:Flight", "fields": {"raw": {"$enum": "this:Zen", "v": 1}}},
        "task": {"$ref": "task", "cls": "idlelib.idle:main", "name": "x", "__class__": "y"},
        "error_type": "turtledemo.clock:main",
        "other": {"$type": "turtle:Turtle"},
    }
    before = set(sys.modules)

    event: Any = live_event(made("task_completed", hostile))
    failed: Any = live_event(made("task_failed", hostile))

    assert {"antigravity", "this", "turtle", "turtledemo.clock", "idlelib.idle"} & (set(sys.modules) - before) == set()
    assert event.output.raw == 1
    assert event.task.name == "x"
    assert failed.error_type == "turtledemo.clock:main"


def test_the_command_plays_to_a_module_of_the_user(cli: Cli, tmp_path: Path) -> None:
    """``eventlog replay --play 0 --listeners MODULE``: run from the folder of that module."""
    (tmp_path / "my_listeners.py").write_text(
        "from crewai.events import TaskCompletedEvent, crewai_event_bus\n"
        "@crewai_event_bus.on(TaskCompletedEvent)\n"
        "def heard(source, event):\n"
        "    print('heard', event.output.raw, flush=True)\n",
        "utf-8",
    )
    result = finish("replay", RUN, "--play", "0", "--listeners", "my_listeners", "--db", cli.db, cwd=tmp_path)

    assert result.code == 0
    assert len([line for line in result.out.splitlines() if line.startswith("heard ")]) == 3
    assert "listeners took 3 of them" in result.err


def test_the_command_tells_what_cannot_be_imported(cli: Cli) -> None:
    """One line; the traceback would be of no use."""
    result = cli("replay", RUN, "--play", "0", "--listeners", "no_such_listeners")

    assert result.code == 1
    assert result.err.splitlines()[0].startswith("Error: cannot import no_such_listeners: ModuleNotFoundError")


def test_the_command_without_listeners_shows_the_events(cli: Cli) -> None:
    """And as JSON what became of them."""
    text = cli("replay", RUN, "--play", "0", "--to", "20")
    document = cli("replay", RUN, "--play", "0", "--to", "20", "--json")

    assert text.code == document.code == 0
    assert "task_started" in text.out
    assert '"unknown_types": {}' in document.out
