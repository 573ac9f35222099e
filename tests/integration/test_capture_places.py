"""Whatever thread, task or context an event comes from, it is captured, once, in the run it belongs to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from crewai.events.base_events import BaseEvent
from crewai.events.event_bus import crewai_event_bus as bus
from pydantic import Field

import eventlog
from eventlog import EventLogListener, Log
from tests.scenarios import build
from tests.verifying import problems


class Early(BaseEvent):
    """Defined before any listener."""

    type: str = "test_early"
    n: int = 0
    items: list[Any] = Field(default_factory=list)


@pytest.fixture
def log(tmp_path: Path) -> Any:
    """A log of this process; whole when the test is over."""
    log = eventlog.open(tmp_path / "log.db")
    yield log
    log.close()

    assert list(problems(tmp_path / "log.db")) == []


def in_thread(job: Callable[[], Any]) -> None:
    """Run a job in a raw thread: it inherits no context."""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            job()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)

    assert not thread.is_alive()
    assert failed == []


def numbers(log: Log, run: str | None = None) -> list[int]:
    """Return the numbers of the test's own events."""
    return [e.payload["n"] for e in log.events(run) if e.type.startswith("test_")]


def test_two_crews_in_two_threads_go_to_their_own_runs(log: Log) -> None:
    """Each event in the run its thread entered; nothing from the neighbour."""
    both = threading.Barrier(2)

    def work(name: str) -> None:
        scenario = build(name)
        both.wait(10)
        with log.run(name):
            scenario.start()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, ["sequential_react", "sequential_native"]))

    assert {run.run: run.status for run in log.runs()} == dict.fromkeys(
        ["sequential_react", "sequential_native"], "completed"
    )
    for run in log.runs():
        kinds = [e.type for e in log.events(run.run)]
        assert (kinds.count("crew_kickoff_started"), kinds.count("task_completed")) == (1, 2)
        assert {e.path.split("/")[1] for e in log.events(run.run) if e.path} == {log.executions(run.run)[0].path[1:]}
    assert not [e for e in log.events() if e.run is None]


def test_a_raw_thread_belongs_to_the_only_open_run(log: Log) -> None:
    """There is nothing else it could belong to."""
    with log.run("only"):
        in_thread(lambda: build("sequential_react").start())
        in_thread(lambda: bus.emit(None, Early(n=7)))

    assert [(run.run, run.status, run.attribution) for run in log.runs()] == [("only", "completed", "named")]
    assert numbers(log, "only") == [7]


def test_a_kickoff_in_a_raw_thread_between_two_runs_is_marked_as_guessed(log: Log) -> None:
    """Better a run of its own, and said so, than the wrong one."""
    with log.run("one"), log.run("two"):
        in_thread(lambda: build("sequential_react").start())

    guessed = [run for run in log.runs() if run.attribution == "guessed"]
    assert [run.status for run in guessed] == ["completed"]
    assert [list(log.events(name)) for name in ("one", "two")] == [[], []]


def test_bind_takes_a_function_into_its_run(log: Log) -> None:
    """The sure way for raw threads: also while other runs are open, and for coroutine functions."""

    async def later() -> None:
        await bus.aemit(None, Early(n=3))

    with log.run("one") as one, log.run("two") as two:
        in_thread(one.bind(lambda: bus.emit(None, Early(n=1))))
        in_thread(two.bind(lambda: bus.emit(None, Early(n=2))))
        in_thread(lambda: asyncio.run(one.bind(later)()))
        bus.emit(None, Early(n=4))

    assert (numbers(log, "one"), numbers(log, "two")) == ([1, 3], [2, 4])


def test_one_run_may_be_entered_by_many_threads_and_tasks_at_once(log: Log) -> None:
    """They leave in any order; each context goes back to the run it was in before."""
    run = log.run("shared")

    async def task(n: int) -> None:
        with run:
            await asyncio.sleep(0.02 / (n + 1))
            bus.emit(None, Early(n=n))

    async def tasks() -> None:
        await asyncio.gather(*(task(n) for n in range(8)))

    with log.run("outer"):
        asyncio.run(tasks())
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(run.bind(lambda n: bus.emit(None, Early(n=n))), range(8, 16)))
        bus.emit(None, Early(n=99))

    assert sorted(numbers(log, "shared")) == list(range(16))
    assert numbers(log, "outer") == [99]


def test_every_way_of_emitting_is_captured(log: Log) -> None:
    """``emit``, ``aemit``, a class defined after the listener, ``scoped_handlers``, a raw thread."""
    listener = EventLogListener(log)
    late = type("Late", (BaseEvent,), {"__annotations__": {"type": str, "n": int}, "type": "test_late", "n": 3})

    bus.emit(None, Early(n=1))
    asyncio.run(bus.aemit(None, Early(n=2)))
    bus.emit(None, late())
    with bus.scoped_handlers():
        bus.emit(None, Early(n=4))
    in_thread(lambda: bus.emit(None, Early(n=5)))
    listener.close()
    bus.emit(None, Early(n=6))

    assert numbers(log) == [1, 2, 3, 4, 5]
    assert log.status().capture_mode == "off"


def test_a_payload_is_stored_as_it_was_when_emitted(log: Log) -> None:
    """CrewAI hands the live object to its handlers; whoever encodes there stores what it became."""
    with log.run("r"):
        for n in range(200):
            event = Early(n=n, items=[n, {"deep": [n]}])
            bus.emit(None, event)
            event.items[1]["deep"].append("changed")
            event.n = -1

    assert [(e.payload["n"], e.payload["items"]) for e in log.events("r")] == [
        (n, [n, {"deep": [n]}]) for n in range(200)
    ]


def test_handlers_that_emit_are_captured_after_what_they_handle(log: Log) -> None:
    """A sync handler emits from CrewAI's pool, a stream sink from inside ``emit`` itself."""
    from crewai.events.stream_context import add_stream_sink, reset_stream_sinks

    done = threading.Event()

    def sink(_source: Any, event: Any) -> None:
        if event.n == 1:
            bus.emit(None, Early(n=2))

    with log.run("r"), bus.scoped_handlers():

        @bus.on(Early)
        def handle(_source: Any, event: Any) -> None:
            if event.n == 2:
                bus.emit(None, Early(n=3))
                done.set()

        token = add_stream_sink(sink)
        bus.emit(None, Early(n=1))
        reset_stream_sinks(token)

        assert done.wait(10)

    assert numbers(log, "r") == [1, 2, 3]


def test_a_listener_and_a_run_on_one_file_capture_once(log: Log, tmp_path: Path) -> None:
    """One recorder per process and real path, however the path is spelled."""
    (tmp_path / "link").symlink_to(tmp_path)
    listener = EventLogListener(tmp_path / "link" / "log.db")
    with log.run("r"):
        build("sequential_react").start()
    bus.emit(None, Early(n=1))
    listener.close()

    ids = [e.event_id for e in log.events()]
    assert len(ids) == len(set(ids))
    assert [e.type for e in log.events("r")].count("crew_kickoff_started") == 1
    assert [(run.run, run.status) for run in log.runs()] == [("r", "completed")]
    assert [e.run for e in log.events() if e.type == "test_early"] == [None]


def test_two_listeners_on_one_file_are_independent(log: Log) -> None:
    """Closing one leaves the other at work, with the run that it was given."""
    first, second = EventLogListener(log), EventLogListener(log, run="second")
    bus.emit(None, Early(n=1))
    second.close()
    bus.emit(None, Early(n=2))
    third = EventLogListener(log)
    first.close()
    bus.emit(None, Early(n=3))
    third.close()
    bus.emit(None, Early(n=4))

    assert [(e.payload["n"], e.run) for e in log.events()] == [(1, "second"), (2, None), (3, None)]


def test_two_listeners_on_two_files_both_capture_everything(log: Log, tmp_path: Path) -> None:
    """One tap, two recorders; closing one leaves the other at work."""
    with eventlog.open(tmp_path / "other.db") as other:
        first, second = EventLogListener(log), EventLogListener(other)
        build("sequential_react").start()
        first.close()
        bus.emit(None, Early(n=1))
        second.close()

        ids = [[e.event_id for e in x.events() if not e.type.startswith("eventlog.")] for x in (log, other)]
        assert ids[0] == ids[1][:-1]
        assert [run.status for x in (log, other) for run in x.runs()] == ["completed", "completed"]
        assert numbers(other) == [1]
