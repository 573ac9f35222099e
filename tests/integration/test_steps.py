"""Steps: done once, with a typed result, in every form; seen at any cursor, on forks, after compaction."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import decimal
import enum
import functools
import pathlib
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import eventlog
from eventlog import StepError
from eventlog.ledger.events import StepStarted
from tests.integration.pipelines import ITEMS, RUN, Counter, Team, done


@pytest.fixture
def log(tmp_path: Path) -> Iterator[eventlog.Log]:
    """A log of its own."""
    with eventlog.open(tmp_path / "log.db") as opened:
        yield opened


# -- once -------------------------------------------------------------------------------------------


def test_a_pipeline_that_is_done_asks_nothing_when_it_is_started_again(tmp_path: Path) -> None:
    """The program is started once more: every step is skipped, and its results are those of the first time."""
    first, team = done(tmp_path / "log.db")
    second, nobody = done(tmp_path / "log.db")

    assert (team.calls, team.bodies) == (12, ITEMS)
    assert (second, nobody.calls, nobody.bodies) == (first, 0, [])


def test_a_session_tells_where_the_pipeline_stands(tmp_path: Path) -> None:
    """At a glance: what is done, what is next, how often it was tried."""
    with eventlog.open(tmp_path / "log.db") as log, log.run(RUN, items=["a", "b", "c"]) as run:
        before = run.session()
        run.step("a", lambda: 1)
        with pytest.raises(ValueError, match="no"):
            run.step("b", Counter(ValueError("no")))
        run.summary("b does not work")
        run.note("look at b")
        after = run.session()

    assert (before.status, before.next_items, before.run_count) == ("in_progress", ["a", "b", "c"], 1)
    assert (after.completed_items, after.next_items, after.failed_items) == (["a"], ["b", "c"], ["b"])
    assert (after.status, after.summary, [note.text for note in after.notes]) == (
        "failed", "b does not work", ["look at b"],
    )  # fmt: skip
    assert after.item("a").output == 1
    assert (after.item("b").attempts, after.item("b").error) == (1, "ValueError: no")


def test_the_same_name_with_the_same_arguments_is_the_same_step_however_they_are_given(log: eventlog.Log) -> None:
    """A default that is spelled out, or a keyword instead of a position, changes nothing."""
    calls = []

    def add(a: int, b: int = 2) -> int:
        calls.append((a, b))
        return a + b

    with log.run(RUN) as run:
        results = [run.step("add", add, 1), run.step("add", add, 1, b=2), run.step("add", add, a=1)]

    assert (results, calls) == ([3, 3, 3], [(1, 2)])


def test_two_threads_do_a_step_once(log: eventlog.Log) -> None:
    """The second one waits for the first one's result."""
    begun, calls = threading.Event(), []

    def slow() -> int:
        calls.append(1)
        begun.set()
        threading.Event().wait(0.3)
        return len(calls)

    results = []
    with log.run(RUN) as run:
        first = threading.Thread(target=lambda: results.append(run.step("slow", slow)))
        first.start()
        begun.wait(5)
        results.append(run.step("slow", slow))
        first.join()

    assert (results, calls) == ([1, 1], [1])


def test_a_step_cannot_wait_for_itself(log: eventlog.Log) -> None:
    """It would wait for ever."""
    with log.run(RUN) as run, pytest.raises(StepError, match="inside itself"):
        run.step("a", lambda: run.step("a", lambda: 1))


def test_steps_inside_of_steps_are_steps(log: eventlog.Log) -> None:
    """A step may be made of others; each is there when the outer one has to begin again."""
    inner, outer = Counter("inner"), []

    def whole() -> str:
        outer.append(1)
        text = run.step("part", inner)
        if len(outer) == 1:
            raise ValueError
        return f"whole of {text}"

    with log.run(RUN) as run:
        result = run.step("whole", whole, retries=1)

    assert (result, inner.calls, len(outer)) == ("whole of inner", 1, 2)


# -- results ------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    """A choice."""

    RED = "red"


class Finding(BaseModel):
    """What a scan found."""

    name: str
    colour: Colour
    at: datetime.datetime


@dataclasses.dataclass
class Point:
    """A place."""

    x: int
    y: tuple[int, int]


MOMENT = datetime.datetime(2026, 1, 15, 12, 0, tzinfo=datetime.timezone.utc)
FINDING = Finding(name="sql", colour=Colour.RED, at=MOMENT)


def finds() -> list[Finding]:
    """Return models that the annotation declares."""
    return [FINDING, FINDING]


def points() -> dict[str, Point]:
    """Return dataclasses that the annotation declares."""
    return {"a": Point(1, (2, 3))}


def returns(value: Any) -> Callable[[], Any]:
    """Return a function without an annotation."""
    return lambda: value


RESULTS: list[tuple[Callable[[], Any], Any]] = [
    *((returns(value), None) for value in (
        "text", "ünï \ud800 \x00", "", 0, -1, 2**80, 1.5, float("inf"), True, None, b"\x00\xff",
        [1, [2, None]], {"a": {"b": [1.0]}},
        (1, ("x",)), {1, 2}, {1: "int key", "$odd": "key"}, MOMENT, MOMENT.date(), datetime.timedelta(seconds=3),
        decimal.Decimal("1.10"), uuid.UUID(int=7), pathlib.Path("a/b"), "long " * 5000,
    )),
    (finds, None), (points, None), (returns(FINDING), Finding), (returns([FINDING]), list[Finding]),
    (returns(Colour.RED), Colour),
]  # fmt: skip


@pytest.mark.parametrize(("function", "result_type"), RESULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_result_comes_back_as_it_was(tmp_path: Path, function: Callable[[], Any], result_type: Any) -> None:
    """Another process gets a value of the same type, not the text of one."""
    options = {} if result_type is None else {"result_type": result_type}
    expected = function()
    for _ in range(2):
        with eventlog.open(tmp_path / "log.db") as log, log.run(RUN) as run:
            result = run.step("value", function, **options)
            attempts = run.session().item("value").attempts

    assert (result, type(result), attempts) == (expected, type(expected), 1)


def test_outputs_of_crewai_come_back_as_outputs(tmp_path: Path) -> None:
    """``result.raw`` and ``result.tasks_output`` work the next time, too."""
    team, kept = Team(), []
    for _ in range(2):
        with eventlog.open(tmp_path / "log.db") as log, log.run(RUN) as run:
            kept.append(run.step("scan", run.kickoff, team.crew("x")))

    assert kept[1] == kept[0]
    assert [type(output).__name__ for output in kept[1].tasks_output] == ["TaskOutput", "TaskOutput"]
    assert team.calls == 2


@pytest.mark.parametrize("value", [FINDING, threading.Event()])
def test_what_cannot_be_made_again_is_done_again_and_said_at_once(tmp_path: Path, value: Any) -> None:
    """A class that nobody declared, or a live object: a warning with the remedy, and never a wrong value."""
    counter = Counter(value)
    for _ in range(2):
        with eventlog.open(tmp_path / "log.db") as log, log.run(RUN) as run:
            with pytest.warns(UserWarning, match="result_type"):
                result = run.step("value", counter)
            item = run.session().item("value")

    assert (result, counter.calls) == (value, 2)
    assert (item.status, bool(item.unkept)) == ("completed", True)


def test_a_result_with_a_secret_is_not_served_without_it(tmp_path: Path) -> None:
    """What stands in the log is not what the function returned; with ``keep`` it is good enough."""
    counter = Counter("the key is sk-abcdefghijklmnopqrstuvwxyz0123456789ABCD")
    with eventlog.open(tmp_path / "log.db") as log, log.run(RUN) as run:
        with pytest.warns(UserWarning, match="redaction changed it"):
            first, second = run.step("scan", counter), run.step("scan", counter)
        kept = run.step("scan", counter, on_stale="keep")

    assert (second, counter.calls) == (first, 2)
    assert kept.startswith("the key is [redacted:")


# -- forms --------------------------------------------------------------------------------------------


def test_a_decorated_function_is_a_step(log: eventlog.Log) -> None:
    """By its own name, or by one that its arguments fill in; told apart by its arguments, or by other inputs."""
    calls: list[Any] = []
    with log.run(RUN) as run:

        @run.task_step
        def plain(n: int) -> int:
            """Say what it is."""
            calls.append(n)
            return n

        @run.task_step("scan-{module}", retries=1)
        def scan(module: str, depth: int = 1) -> str:
            calls.append((module, depth))
            return module

        @run.task_step(inputs=lambda notes: notes.lower())
        def told(notes: str) -> str:
            calls.append(notes)
            return notes

        results = [plain(1), plain(1), scan("auth"), scan("api"), scan("auth", depth=1), told("A"), told("a")]
        names = [item.name for item in run.session().items]

    assert results == [1, 1, "auth", "api", "auth", "A", "A"]
    assert calls == [1, ("auth", 1), ("api", 1), "A"]
    assert names == ["plain", "scan-auth", "scan-api", "told"]
    assert (plain.__name__, plain.__doc__) == ("plain", "Say what it is.")


def test_the_asynchronous_twins_do_the_same(log: eventlog.Log) -> None:
    """Several steps at the same time in one event loop, each with its own kickoffs."""
    team = Team()

    async def scan(module: str) -> str:
        output = await run.akickoff(team.crew(module))
        return str(output.raw)

    async def all_of_them() -> list[str]:
        @run.task_step
        async def report() -> str:
            return "fine"

        names = ["auth", "api", "data"]
        found = await asyncio.gather(*(run.astep(name, scan, name) for name in names))
        return [*found, await report(), await run.astep("last", functools.partial(scan, "auth"))]

    with log.run(RUN) as run:
        first = asyncio.run(all_of_them())
        calls = team.calls
        second = asyncio.run(all_of_them())
        session = run.session()

    assert (second, calls, team.calls) == (first, 8, 8)
    assert set(session.completed_items) == {"auth", "api", "data", "report", "last"}


def test_what_is_bound_in_a_step_is_part_of_it_in_any_thread(tmp_path: Path) -> None:
    """Crews in a pool of threads: their kickoffs are the step's, and known when it begins again."""
    team = Team()
    died: list[int] = []

    def scan(module: str) -> str:
        return str(team.crew(module).kickoff())

    def all_of_them() -> list[str]:
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(run.bind(scan), ["auth", "api", "data"]))
        if not died:
            died.append(1)
            raise KeyboardInterrupt
        return found

    with eventlog.open(tmp_path / "log.db") as log, log.run(RUN) as run, pytest.raises(KeyboardInterrupt):
        run.step("scan", all_of_them)
    with eventlog.open(tmp_path / "log.db") as log, log.run(RUN) as run:
        found = run.step("scan", all_of_them)
        paths = [execution.path for execution in log.executions(RUN)]

    assert (len(found), team.calls) == (3, 6)
    assert len(paths) == 3
    assert all("@scan#" in path for path in paths)


def test_what_a_step_remembers_is_there_once_however_often_it_begins(log: eventlog.Log) -> None:
    """It died between what it saved and its end: the next attempt saves nothing twice, and nothing less.

    Seen to fail when ids are new in every attempt, and when they do not depend on what is saved.
    """
    died: list[int] = []

    def scan() -> str:
        for value in ["a", "b", "a"] if not died else ["b", "c", "a", "a"]:
            run.memory.save(value)
        if not died:
            died.append(1)
            raise KeyboardInterrupt
        return "done"

    with log.run(RUN) as run:
        with pytest.raises(KeyboardInterrupt):
            run.step("scan", scan)
        run.step("scan", scan)
        found = sorted(entry.value for entry in run.memory.all())

    assert found == ["a", "a", "b", "c"]


def test_what_a_step_remembered_goes_when_it_is_done_again(log: eventlog.Log) -> None:
    """The notes changed: the finding of the old ones must not stand beside that of the new ones."""

    def scan(notes: str) -> str:
        run.memory.save(f"found in {notes}", agent="scanner", scope="agent-private")
        run.memory.save("the same")
        return notes

    with log.run(RUN) as run:
        run.memory.save("by hand")
        for notes in ("old", "new", "newest"):
            run.step("scan", scan, notes)
        run.step("scan again", scan, "other")
        found = [entry.value for entry in run.memory.all(agent="scanner")]

    assert sorted(found) == ["by hand", "found in newest", "found in other", "the same", "the same"]


def test_an_asynchronous_function_needs_the_asynchronous_twin(log: eventlog.Log) -> None:
    """A coroutine must not be recorded as the result."""

    async def later() -> int:
        return 1

    with log.run(RUN) as run, pytest.raises(StepError, match=r"await run\.astep"):
        run.step("a", later)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"on_stale": "ask"}, "on_stale='ask'"),
        ({"retries": -1}, "must not be negative"),
        ({"depends_on": "scan"}, "give a list of items"),
    ],
)
def test_options_that_mean_nothing_are_refused(log: eventlog.Log, options: dict[str, Any], said: str) -> None:
    """One clear line, before anything is done."""
    counter = Counter(1)
    with log.run(RUN) as run, pytest.raises(eventlog.EventLogError, match=said):
        run.step("a", counter, **options)

    assert counter.calls == 0


def test_what_nobody_has_heard_of_cannot_be_spoken_of(log: eventlog.Log) -> None:
    """A typo must not make an item that is never done."""
    with log.run(RUN, items=["deploy"]) as run:
        for say in (run.invalidate, run.release, run.unblock, lambda item: run.block(item, "why")):
            with pytest.raises(eventlog.ItemNotFoundError, match=r"no item 'deplyo' in session 'audit'; .* deploy"):
                say("deplyo")

        assert [item.name for item in run.session().items] == ["deploy"]


def test_items_are_a_list_and_a_step_has_a_function(log: eventlog.Log) -> None:
    """The usual slips: a single name, and the result instead of the function."""
    with pytest.raises(eventlog.EventLogError, match="give a list of items"):
        log.run(RUN, items="scan")
    with log.run(RUN) as run, pytest.raises(eventlog.EventLogError, match="give a function"):
        run.step("scan", "result")  # type: ignore[arg-type]  # the slip


# -- cursors and forks ------------------------------------------------------------------------------


def test_a_session_can_be_seen_at_any_cursor(tmp_path: Path) -> None:
    """Where the pipeline stood when its second step began."""
    done(tmp_path / "log.db")
    with eventlog.open(tmp_path / "log.db", readonly=True) as log:
        seqs = [event.seq for event in log.events(RUN, types=[StepStarted.event_type])]
        sessions = [log.ledger(RUN).session(to=seq) for seq in seqs]

    assert [s.in_progress_item for s in sessions] == ITEMS
    assert [s.completed_items for s in sessions] == [[], ["scan"], ["scan", "fix"]]
    assert [s.next_items for s in sessions] == [["fix", "report"], ["report"], []]


def test_a_fork_goes_on_from_where_the_session_was_and_leaves_it_alone(tmp_path: Path) -> None:
    """What if the second step were done otherwise: the fork does it anew, and nothing of it shows in the parent."""
    done(tmp_path / "log.db")
    with eventlog.open(tmp_path / "log.db") as log:
        seqs = [event.seq for event in log.events(RUN, types=[StepStarted.event_type])]
        before = log.ledger(RUN).session()
        log.fork(RUN, to=seqs[1] - 1, branch="other")
        team = Team(script=lambda _messages, _tools: "otherwise")
        with log.run(RUN, branch="other", items=ITEMS) as run:
            results = team.pipeline(run)
        after, fork = log.ledger(RUN).session(), log.ledger(RUN, branch="other").session()

    assert (team.bodies, results[1:]) == (["fix", "report"], ["otherwise", "otherwise"])
    assert after == before
    assert fork.completed_items == ITEMS
    assert fork.item("scan").output == before.item("scan").output


# -- the rest of the log ----------------------------------------------------------------------------


def test_the_ledger_survives_compaction(tmp_path: Path) -> None:
    """Compaction drops what steps asked; that they are done, and with what result, it keeps."""
    first, _ = done(tmp_path / "log.db")
    with eventlog.open(tmp_path / "log.db") as log:
        before, events = log.ledger(RUN).session(), log.runs()[0].events
        log.compact(0)
        after, left = log.ledger(RUN).session(), log.runs()[0].events
    second, team = done(tmp_path / "log.db")

    assert after == before
    assert left < events / 4
    assert (second, team.calls) == (first, 0)


def test_a_run_with_steps_executes_again(tmp_path: Path) -> None:
    """Re-execution calls every step's function again, answers its kickoffs from the log, and appends nothing."""
    first, team = done(tmp_path / "log.db")
    with eventlog.open(tmp_path / "log.db") as log:
        before = log.ledger(RUN).session()
        again = Team()
        with log.reexecuting(RUN) as result, log.run(RUN, items=ITEMS) as run:
            second = again.pipeline(run)
        after = log.ledger(RUN).session()

    assert (second, again.bodies, again.calls) == (first, team.bodies, 0)
    assert result.ok
    assert after == before


def test_nothing_of_the_ledger_is_unknown_to_a_state(tmp_path: Path) -> None:
    """Its events are ours: a state counts them, and calls none of them unknown."""
    done(tmp_path / "log.db")
    with eventlog.open(tmp_path / "log.db", readonly=True) as log:
        state = log.state(RUN)

    assert (state.status, state.unknown_types, len(state.executions)) == ("completed", {}, 6)
