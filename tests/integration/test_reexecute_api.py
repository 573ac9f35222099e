"""``run.reexecute``: what it takes, what it returns, what it finds, and what it leaves alone."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crewai import Crew, Task
from crewai.flow.flow import Flow, start
from crewai.tools import tool

import eventlog
from eventlog.testing import final, tool_call
from tests.scenarios import World
from tests.scenarios.crews import TOPIC, step

DictFlow = Flow[dict]  # type: ignore[type-arg]  # CrewAI does not know dict[str, Any] as a state


def crew_of(world: World, *texts: str, **llm_options: Any) -> Crew:
    """Return a crew of one agent with a task for each text."""
    agent = world.agent(llm=world.llm(**llm_options))
    tasks = [Task(name=text, description=text, expected_output="Text", agent=agent) for text in texts]
    return Crew(name="c", agents=[agent], tasks=tasks)


def rows(path: Path) -> list[Any]:
    """Return all events of a log, byte by byte."""
    with sqlite3.connect(path) as db:
        return db.execute("SELECT * FROM events ORDER BY seq").fetchall()


@pytest.fixture(autouse=True)
def no_scratch_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is executed again is recorded in a temporary folder, which must be gone afterwards."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield
    assert list(folder.glob("eventlog-*")) == []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log lies."""
    return tmp_path / "x.db"


THREE = ("First {topic}", "Second {topic}", "Third {topic}")


def record(path: Path, entity: Any, *args: Any, **kwargs: Any) -> Any:
    """Kick something off in run ``r``."""
    with eventlog.open(path) as log:
        return log.run("r").kickoff(entity, *args, **kwargs)


# -- what it returns ---------------------------------------------------------------------------------


def test_the_result_is_a_value_that_is_true_when_nothing_differs(path: Path) -> None:
    """Output, counts and the number of events that were compared."""
    recorded = record(path, crew_of(World(), *THREE), inputs=TOPIC)
    world = World()

    with eventlog.open(path) as log:
        result = log.run("r").reexecute(crew_of(world, *THREE), inputs=TOPIC)

    assert isinstance(result, eventlog.Reexecution)
    assert result
    assert result.ok
    assert (result.diverged_at, result.error, result.changed) == (None, None, None)
    assert result.output.raw == recorded.raw
    assert (result.served.llm, result.served.token_counts) == (3, 3)
    assert result.events > 20
    assert world.llm_calls == world.token_counts == 0


def test_without_inputs_the_newest_kickoff_is_meant(path: Path) -> None:
    """Its inputs are taken from the log; with inputs, the kickoff that had them."""
    outputs = {topic: record(path, crew_of(World(), *THREE), inputs={"topic": topic}).raw for topic in ("tea", "milk")}

    with eventlog.open(path, readonly=True) as log:
        newest = log.reexecute("r", crew_of(World(), *THREE))
        first = log.run("r").reexecute(crew_of(World(), *THREE), {"topic": "tea"})

    assert (newest.output.raw, first.output.raw) == (outputs["milk"], outputs["tea"])
    assert newest
    assert first


def test_it_waits_for_no_event_loop(path: Path) -> None:
    """``areexecute`` goes through the asynchronous kickoff."""
    with eventlog.open(path) as log:
        recorded = asyncio.run(log.run("r").akickoff(crew_of(World(), *THREE), inputs=TOPIC))
        result = asyncio.run(log.run("r").areexecute(crew_of(World(), *THREE), TOPIC))

    assert result
    assert result.output.raw == recorded.raw


@pytest.mark.parametrize("stream", [False, True])
def test_a_stream_is_read_to_its_end(path: Path, *, stream: bool) -> None:
    """The chunks are compared as well."""
    with eventlog.open(path) as log, log.run("r") as run:
        crew = crew_of(World(), *THREE)
        crew.stream = stream
        recorded = run.kickoff(crew, inputs=TOPIC)
        chunks = [chunk.content for chunk in recorded] if stream else []
    again = crew_of(World(), *THREE)
    again.stream = stream

    with eventlog.open(path, readonly=True) as log:
        result = log.reexecute("r", again, TOPIC)

    assert result, str(result)
    assert bool(chunks) is stream


def test_what_ended_in_an_error_ends_in_it_again(path: Path) -> None:
    """That is no divergence; the error is part of the result."""

    def fail(messages: Any, tools: Any) -> Any:
        return ConnectionError("network down")

    with pytest.raises(ConnectionError):
        record(path, crew_of(World(), "One", script=fail))
    world = World()

    with eventlog.open(path, readonly=True) as log:
        result = log.reexecute("r", crew_of(world, "One", script=fail))

    assert result, str(result)
    assert isinstance(result.error, ConnectionError)
    assert result.output is None
    assert world.llm_calls == 0


@pytest.mark.parametrize(("run", "entity"), [("nobody", "crew"), ("r", "other")])
def test_what_is_not_on_record_is_not_found(path: Path, run: str, entity: str) -> None:
    """An error with a hint, not a divergence."""
    record(path, crew_of(World(), *THREE), inputs=TOPIC)

    with eventlog.open(path, readonly=True) as log:
        with pytest.raises(eventlog.NotFoundError) as caught:
            log.reexecute(run, crew_of(World(), *(THREE if entity == "crew" else ("Other",))))
        with pytest.raises(eventlog.NotFoundError):
            log.reexecute("r", crew_of(World(), *THREE), {"topic": "gold"})
        with pytest.raises(eventlog.EventLogError, match="is no crew"):
            log.reexecute("r", object())

    assert caught.value.hint


# -- what it finds -----------------------------------------------------------------------------------


def test_an_edited_task_is_named_with_both_texts(path: Path) -> None:
    """Its place, the message, and the words around the difference; the tasks before it were served."""
    record(path, crew_of(World(), *THREE), inputs=TOPIC)
    world = World()

    with eventlog.open(path, readonly=True) as log:
        result = log.reexecute("r", crew_of(world, THREE[0], "Second but better {topic}", THREE[2]), TOPIC)

    assert not result
    assert "/task[" in str(result.diverged_at)
    assert str(result.diverged_at).endswith(" llm_call_started")
    assert result.at.startswith("messages[1].content@")
    assert "Second tea" in result.expected
    assert "Second but better tea" in result.actual
    assert result.served.llm == 1
    assert "Second {topic}" in str(result.changed)
    assert world.llm_calls == 0


def test_an_added_task_is_asked_nothing(path: Path) -> None:
    """Nothing is recorded where it stands."""
    record(path, crew_of(World(), THREE[0], THREE[2]), inputs=TOPIC)
    world = World()

    with eventlog.open(path, readonly=True) as log:
        result = log.reexecute("r", crew_of(world, *THREE), TOPIC)

    assert not result
    assert result.expected is None
    assert "Second tea" in str(result.actual)
    assert world.llm_calls == 0


@pytest.mark.parametrize("left", [(0, 1), (0, 2), (1, 2)])
def test_a_removed_task_is_missed(path: Path, left: tuple[int, int]) -> None:
    """Wherever it stood, the first difference is that it does not start."""
    record(path, crew_of(World(), *THREE), inputs=TOPIC)
    removed = next(i for i in range(3) if i not in left)

    with eventlog.open(path, readonly=True) as log:
        result = log.reexecute("r", crew_of(World(), *(THREE[i] for i in left)), TOPIC)

    assert not result
    assert str(result.diverged_at).endswith(" task_started")
    assert result.expected["task_name"] == THREE[removed]
    assert result.actual is None


def test_another_result_of_the_same_calls_is_found(path: Path) -> None:
    """Code between the calls may differ, too: the output is compared."""

    class Ends(DictFlow):
        word = "one"

        @start()
        def end(self) -> str:
            return self.word

    record(path, Ends())
    Ends.word = "two"

    with eventlog.open(path, readonly=True) as log:
        result = log.reexecute("r", Ends())

    assert not result
    assert (result.expected, result.actual) == ("one", "two")
    assert "method[end]" in str(result.diverged_at)


def test_what_redaction_took_is_not_served(path: Path) -> None:
    """A marker is no answer: the reason is told."""
    secret = "sk-" + "a1b2c3d4e5f6" * 3
    crew = crew_of(World(), "One", script=[f"Final Answer: {secret}"])
    record(path, crew)
    world = World()

    with eventlog.open(path, readonly=True) as log:
        result = log.reexecute("r", crew_of(world, "One", script=[f"Final Answer: {secret}"]))

    assert not result
    assert "redaction changed it" in str(result.expected)
    assert world.llm_calls == 0


def test_an_end_of_the_record_is_an_end(path: Path, tmp_path: Path) -> None:
    """A run that was interrupted and never resumed: what it did not get to is not asked now."""

    def die(messages: Any, tools: Any) -> Any:
        return KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(path, crew_of(World(), "One", "Two", script=[final("one"), die]))
    world = World()

    with eventlog.open(path, readonly=True) as log:
        result = log.reexecute("r", crew_of(world, "One", "Two"))

    assert not result
    assert result.served.llm == 1
    assert world.llm_calls == 0


# -- tools ---------------------------------------------------------------------------------------------


def test_a_tool_that_runs_a_crew_is_run_again_and_any_other_is_not(path: Path) -> None:
    """What the inner crew asks is served; the leaf's function is not called."""

    def outer(world: World, ran: list[str]) -> Crew:
        inner: Any = crew_of(world, "Inner")

        @tool("ask_crew")
        def ask_crew(q: str) -> str:
            """Ask the other crew."""
            ran.append("ask_crew")
            return str(inner.kickoff().raw)

        @tool("leaf")
        def leaf(q: str) -> str:
            """Look up."""
            ran.append("leaf")
            return "a fact"

        script = [tool_call("ask_crew", q="x"), tool_call("leaf", q="y"), final("done")]
        agent = world.agent(llm=world.llm(script=script), tools=[ask_crew, leaf])
        return Crew(agents=[agent], tasks=[step(agent)])

    first: list[str] = []
    record(path, outer(World(), first), inputs=TOPIC)
    ran: list[str] = []
    world = World()

    with eventlog.open(path, readonly=True) as log:
        result = log.reexecute("r", outer(world, ran), TOPIC)

    assert result, str(result)
    assert first == ["ask_crew", "leaf"]
    assert ran == ["ask_crew"]
    assert (result.served.llm, result.served.tools) == (4, 1)
    assert world.llm_calls == 0


# -- what it leaves alone --------------------------------------------------------------------------------


def test_nothing_is_appended_anywhere(path: Path, tmp_path: Path) -> None:
    """Not to the run, not to another log that listens, and not by the code that is executed again."""

    class Notes(DictFlow):
        run: Any = None

        @start()
        def note(self) -> str:
            Notes.run.append("my.note", {"n": 1})
            return "noted"

    with eventlog.open(path) as log, log.run("r") as run:
        Notes.run = run
        run.kickoff(Notes())
    before, notes = rows(path), Notes()

    with eventlog.open(tmp_path / "other.db") as other, other.run("o"), eventlog.open(path) as log:
        with log.run("r") as run:
            Notes.run = run
            result = run.reexecute(notes)
        assert other.status().captured == 0
        assert list(other.events("o")) == []

    assert result, str(result)
    assert rows(path) == before


def test_a_kickoff_beside_it_is_live(path: Path) -> None:
    """Another thread's crew is none of its business: it asks its model, and is captured where it belongs."""
    record(path, crew_of(World(), *THREE), inputs=TOPIC)
    world, began, done = World(), threading.Event(), threading.Event()

    class Waits(DictFlow):
        @start()
        def wait(self) -> str:
            began.set()
            done.wait(20)
            return "waited"

    done.set()
    record(path, Waits())
    began.clear()
    done.clear()
    results: list[Any] = []
    with eventlog.open(path) as log:
        thread = threading.Thread(target=lambda: results.append(log.run("r").reexecute(Waits())))
        thread.start()
        assert began.wait(20)
        log.run("live").kickoff(crew_of(world, "Live"))
        done.set()
        thread.join()
        assert log.state("live").status == "completed"

    assert [str(result) for result in results if not result] == []
    assert len(results) == 1
    assert world.llm_calls == 1


def test_after_it_everything_is_as_before(path: Path) -> None:
    """A resumable run is resumed, and a new kickoff asks its model."""
    record(path, crew_of(World(), *THREE), inputs=TOPIC)
    world = World()

    with eventlog.open(path) as log, log.run("r") as run:
        assert run.reexecute(crew_of(World(), "First {topic}", "New", THREE[2]), TOPIC).diverged_at
        assert run.kickoff(crew_of(World(), *THREE), inputs=TOPIC)
        run.kickoff(crew_of(world, "Another"))

    assert world.llm_calls == 1


def test_a_fork_is_executed_again_with_its_edits(path: Path) -> None:
    """The edited output is not made again, it is given; the parent's own history is not asked for."""
    record(path, crew_of(World(), *THREE), inputs=TOPIC)
    with eventlog.open(path) as log:
        log.fork("r", branch="edited", outputs={THREE[0]: "Quite another beginning"})
        recorded = log.run("r", branch="edited").kickoff(crew_of(World(), *THREE), inputs=TOPIC)
        world = World()

        result = log.run("r", branch="edited").reexecute(crew_of(world, *THREE), TOPIC)
        parent = log.run("r").reexecute(crew_of(World(), *THREE), TOPIC)

    assert result, str(result)
    assert parent, parent
    assert result.output.raw == recorded.raw != parent.output.raw
    assert world.llm_calls == 0


def test_a_failure_that_was_tried_again_later_is_not_repeated(path: Path) -> None:
    """The run failed, its service came back, the run went on: again it goes through as if it had never failed."""
    world = World()

    def unreliable(messages: Any, tools: Any) -> Any:
        return ConnectionError("network down") if world.outages else final("all is well")

    crew = crew_of(world, "One", script=unreliable)
    world.outages = 1
    with pytest.raises(ConnectionError):
        record(path, crew)
    world.outages = 0
    recorded = record(path, crew_of(world, "One", script=unreliable))
    later = World()

    with eventlog.open(path, readonly=True) as log:
        result = log.reexecute("r", crew_of(later, "One"))

    assert result, str(result)
    assert result.output.raw == recorded.raw
    assert (result.served.llm, later.llm_calls) == (1, 0)
