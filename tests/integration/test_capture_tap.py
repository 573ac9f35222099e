"""The tap: comes off without a trace, gets on with others, does without, and never hurts the crew."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crewai import Agent, Crew, Task
from crewai.events import event_bus as bus_module
from crewai.events.base_events import BaseEvent
from crewai.events.event_bus import crewai_event_bus as bus
from crewai.events.stream_context import _stream_sinks
from crewai.flow.flow import Flow
from crewai.llms.base_llm import BaseLLM
from crewai.tools.base_tool import BaseTool

import eventlog
from eventlog import EventLogListener, Log
from eventlog.capture.hub import hub
from eventlog.codec import Encoder
from eventlog.testing import ScriptedLLM
from tests.scenarios import build


class Ping(BaseEvent):
    """An event of the test's own."""

    type: str = "test_ping"
    n: int = 0


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """A log of this process."""
    with eventlog.open(tmp_path / "log.db") as log:
        yield log

    assert hub.recorders == ()


def everything() -> dict[str, Any]:
    """Return what CrewAI's bus, and every class that we may wrap, consists of."""
    found: dict[str, Any] = {"bus": {k: v for k, v in vars(bus).items() if k != "_has_pending_events"}}
    found["handlers"] = {k: v for k, v in bus._sync_handlers.items() if v}
    waiting: list[type] = [Agent, Crew, Task, Flow, BaseLLM, BaseTool, type(bus)]
    while waiting:
        cls = waiting.pop()
        found[f"{cls.__module__}.{cls.__qualname__}"] = dict(vars(cls))
        waiting += cls.__subclasses__()
    return found


def test_removal_leaves_crewai_as_it_was(log: Log) -> None:
    """Nothing of ours stays behind: not on the bus, not on a class, not on one made while we were there."""
    build("sequential_react").start()
    before, sinks = everything(), _stream_sinks.get()

    with log.run("r"):
        assert everything() != before
    after = everything()

    assert [name for name in before if before[name] != after[name]] == []
    assert _stream_sinks.get() == sinks
    assert "_prepare_event" not in vars(bus)


def test_a_class_made_while_recording_is_wrapped_and_freed(log: Log) -> None:
    """Providers are imported when first used, which may be in the middle of a run."""
    with log.run("r"):

        class Newcomer(ScriptedLLM):
            """A model class that did not exist when the run began."""

            def call(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
                """Answer."""
                return "fine"

        wrapped = Newcomer.__dict__["call"]
        Newcomer().call("hello")

    assert [e.payload["response"] for e in log.events("r", types=["eventlog.llm_exchange"])] == [{"value": "fine"}]
    assert Newcomer.__dict__["call"] is not wrapped
    assert not hasattr(Newcomer.__dict__["call"], "_eventlog_patch")


def test_we_chain_to_a_wrapper_that_was_there_before(log: Log) -> None:
    """Other tools use the same point; both see every event, and theirs is there when we leave."""
    seen: list[int] = []
    original = bus._prepare_event

    def theirs(source: Any, event: Any) -> None:
        original(source, event)
        if isinstance(event, Ping):
            seen.append(event.n)

    bus._prepare_event = theirs  # type: ignore[method-assign]
    try:
        with log.run("r"):
            bus.emit(None, Ping(n=1))

        assert vars(bus)["_prepare_event"] is theirs
        bus.emit(None, Ping(n=2))
    finally:
        del vars(bus)["_prepare_event"]

    assert seen == [1, 2]
    assert [e.payload["n"] for e in log.events("r")] == [1]


def test_a_wrapper_over_ours_keeps_working_when_we_leave(log: Log) -> None:
    """We cannot be taken out from under it: we stay as a pass-through, and a new tap goes on top."""
    seen: list[int] = []
    listener = EventLogListener(log, run="r")
    ours = bus._prepare_event

    def theirs(source: Any, event: Any) -> None:
        seen.append(event.n if isinstance(event, Ping) else 0)
        ours(source, event)

    bus._prepare_event = theirs  # type: ignore[method-assign]
    try:
        bus.emit(None, Ping(n=1))
        listener.close()
        bus.emit(None, Ping(n=2))
        with log.run("r"):
            bus.emit(None, Ping(n=3))
        assert vars(bus)["_prepare_event"] is theirs
    finally:
        del vars(bus)["_prepare_event"]

    assert [n for n in seen if n] == [1, 2, 3]
    assert [e.payload["n"] for e in log.events("r")] == [1, 3]


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CrewAI in which the tap point has another name."""
    for name in ("emit", "aemit"):
        source = textwrap.dedent(inspect.getsource(getattr(type(bus), name))).replace("_prepare_event", "_make_ready")
        namespace: dict[str, Any] = {}
        exec(compile(source, "renamed", "exec"), vars(bus_module), namespace)
        monkeypatch.setattr(type(bus), name, namespace[name])
    monkeypatch.setattr(type(bus), "_make_ready", type(bus)._prepare_event, raising=False)
    monkeypatch.delattr(type(bus), "_prepare_event")


@pytest.mark.usefixtures("renamed")
def test_without_the_tap_point_handlers_take_over(log: Log) -> None:
    """The fallback sees a crew whole, each event once, and says what it is; it comes off as cleanly."""
    before, sinks = everything(), _stream_sinks.get()
    with log.run("r"):
        mode = log.status().capture_mode
        build("sequential_react").start()
        bus.flush()
    after = everything()

    kinds = [e.type for e in log.events("r") if not e.type.startswith("eventlog.")]
    ids = [e.event_id for e in log.events("r")]
    assert mode == "handlers"
    assert (kinds.count("crew_kickoff_started"), kinds.count("task_completed"), kinds[-1]) == (
        1,
        2,
        "crew_kickoff_completed",
    )
    assert kinds.count("llm_call_completed") == 6
    assert len(ids) == len(set(ids))
    assert log.runs()[0].status == "completed"
    assert [name for name in before if before[name] != after[name]] == []
    assert _stream_sinks.get() == sinks


def test_an_error_of_ours_never_reaches_the_crew(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted and shown instead, and the next event is captured again."""

    def broken(self: Encoder, fields: Any) -> Any:
        raise ZeroDivisionError("a bug of ours")

    with log.run("r"):
        bus.emit(None, Ping(n=1))
        with monkeypatch.context() as patch:
            patch.setattr(Encoder, "encode", broken)
            result = build("sequential_react").start()
        bus.emit(None, Ping(n=2))
        status = log.status()

    assert "saw" in str(result)
    assert status.failed >= 43
    assert status.last_error == "ZeroDivisionError: a bug of ours"
    assert [e.payload["n"] for e in log.events("r", types=["test_ping"])] == [1, 2]


def test_an_error_while_appending_never_reaches_the_crew(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that nobody thought of; what could not be stored is counted, and contents are sent again."""
    from eventlog.append import Appender

    def broken(self: Appender, seq: int, *args: Any) -> Any:
        raise TypeError("cannot be stored")

    with log.run("r"):
        with monkeypatch.context() as patch:
            patch.setattr(Appender, "_row", broken)
            build("sequential_react").start()
            failed = log.status().failed
        build("sequential_react").start()
        status = log.status()

    assert failed > 43
    assert (status.failed, status.degraded, status.last_error) == (failed, None, "TypeError: cannot be stored")
    prompts = [e.payload["messages"] for e in log.events("r", types=["llm_call_started"])]
    assert len(prompts) == 6
    assert all(isinstance(message["content"], str) and message["content"] for p in prompts for message in p)
