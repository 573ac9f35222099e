"""What an attack on steps found, one test each; every one failed before."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import enum
import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from crewai.flow.flow import Flow, start
from pydantic import BaseModel

import eventlog
from eventlog.ledger import attempt as engine
from eventlog.resume.stepping import StepDirector
from tests.integration.pipelines import RUN, Team


@pytest.fixture
def log(tmp_path: Path) -> Iterator[eventlog.Log]:
    """A log of its own."""
    with eventlog.open(tmp_path / "log.db") as opened:
        yield opened


class Dies(BaseException):
    """The process ends."""


# -- what counts as the same --------------------------------------------------------------------------


class Client:
    """An object whose state is what it is."""

    def __init__(self, name: str) -> None:
        self.name = name


def one() -> int:
    """Return 1."""
    return 1


class Slotted:
    """An object without a ``__dict__``."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Notes(BaseModel):
    """A model as an argument."""

    text: str


@dataclasses.dataclass(slots=True)
class Spot:
    """A result without a ``__dict__``."""

    x: int


def spot() -> Spot:
    """Return a declared result."""
    return Spot(1)


DIFFERENT: dict[str, tuple[Any, Any]] = {
    "error codes": ("0x80070005", "0x80070002"),
    "objects": (Client("a"), Client("b")),
    "partials": (functools.partial(max, 1), functools.partial(max, 2)),
    "objects in lists": ([Client("a")], [Client("b")]),
    "keys": ({"a": 1}, {"b": 1}),
    "slots": (Slotted("a"), Slotted("b")),
    "models": (Notes(text="a"), Notes(text="b")),
}
SAME: dict[str, tuple[Any, Any]] = {
    "objects": (Client("a"), Client("a")),
    "functions": (one, one),
    "models": (Notes(text="a"), Notes(text="a")),
    "paths": (Path("a/b"), Path("a") / "b"),
    "order of keys": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "sets": ({"a", "b", "c"}, {"c", "b", "a"}),
}


def calls_with(log: eventlog.Log, values: tuple[Any, Any]) -> int:
    """Return how often a step is done that is asked for with these values, one after the other."""
    calls: list[int] = []
    with log.run(RUN) as run:
        for value in values:
            run.step("a", lambda _given: calls.append(1), value)
    return len(calls)


@pytest.mark.parametrize("what", DIFFERENT)
def test_other_arguments_are_told_apart(log: eventlog.Log, what: str) -> None:
    """The answer to one question must not be given to another."""
    assert calls_with(log, DIFFERENT[what]) == 2


@pytest.mark.parametrize("what", SAME)
def test_equal_arguments_are_taken_for_equal(log: eventlog.Log, what: str) -> None:
    """What is new in every process, or has no order, makes nothing stale."""
    assert calls_with(log, SAME[what]) == 1


def test_the_order_of_what_it_depends_on_means_nothing(log: eventlog.Log) -> None:
    """A set comes in another order in every process."""
    calls: list[int] = []
    with log.run(RUN) as run:
        for name in ("x", "y"):
            run.step(name, one)
        for before in (["x", "y"], ["y", "x"], {"x", "y"}):
            run.step("a", lambda: calls.append(1), depends_on=before)

    assert calls == [1]


def test_a_function_that_changes_its_argument_is_done_once(log: eventlog.Log) -> None:
    """What it was given is what it was given when it was called, also for a second attempt."""
    calls: list[int] = []

    def work(items: list[int]) -> int:
        items.append(len(items))
        calls.append(1)
        if len(calls) == 1:
            raise ValueError
        return 1

    with log.run(RUN) as run:
        run.step("a", work, [7], retries=1)
        run.step("a", work, [7])
        rounds = run.session().item("a").round

    assert (calls, rounds) == ([1, 1], 0)


def test_names_that_begin_alike_do_not_collide() -> None:
    """10,000 addresses with the same beginning: each has kickoffs of its own."""
    marks = {engine.step_label(f"https://example.com/a/very/long/common/path/page-{n}", 0) for n in range(10_000)}

    assert len(marks) == 10_000


def test_a_name_with_a_secret_is_refused(log: eventlog.Log) -> None:
    """Two that differ in it would be one; what is stored has neither."""
    with log.run(RUN) as run, pytest.raises(eventlog.EventLogError, match="must not hold a secret"):
        run.step("check sk-abcdefghijklmnopqrstuvwxyz0123456789ABCD", one)


@pytest.mark.parametrize("item", ["", 5, None])
def test_a_name_is_a_text(log: eventlog.Log, item: Any) -> None:
    """One clear line instead of a traceback of ours."""
    with log.run(RUN) as run, pytest.raises(eventlog.EventLogError, match="an item needs a name"):
        run.step(item, one)


def test_a_name_that_cannot_be_filled_in_says_what_there_is(log: eventlog.Log) -> None:
    """The usual slip in ``@run.task_step``."""
    with log.run(RUN) as run:
        scan = run.task_step("scan-{modul}")(lambda module: module)
        with pytest.raises(eventlog.EventLogError, match="the arguments are: module"):
            scan("auth")


# -- what comes back ------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """A tuple with names."""

    x: int


class Severity(str, enum.Enum):
    """A text with a name."""

    HIGH = "high"


@pytest.mark.parametrize(
    "value", [Pair(1), Severity.HIGH, [Severity.HIGH], frozenset({1}), collections.Counter("a"), bytearray(b"x")]
)
def test_what_would_come_back_as_another_type_is_not_kept(tmp_path: Path, value: Any) -> None:
    """Code that works at the first start works at the second one: rather done again than another type."""
    results = []
    for _ in range(2):
        warned = pytest.warns(UserWarning, match="would come back as|cannot be kept")
        with eventlog.open(tmp_path / "log.db") as log, log.run(RUN) as run, warned:
            results.append(run.step("a", lambda: value))

    assert [type(result) for result in results] == [type(value)] * 2


def test_a_dataclass_with_slots_comes_back(tmp_path: Path) -> None:
    """It has no ``__dict__`` to look into."""
    results = []
    for _ in range(2):
        with eventlog.open(tmp_path / "log.db") as log, log.run(RUN) as run:
            results.append(run.step("a", spot))
            attempts = run.session().item("a").attempts

    assert (results, attempts) == ([Spot(1), Spot(1)], 1)


def test_a_result_that_contains_itself_is_the_callers(log: eventlog.Log) -> None:
    """It cannot be stored; whoever computed it has it all the same."""
    knot: list[Any] = []
    knot.append(knot)
    with log.run(RUN) as run, suppress(UserWarning):
        assert run.step("a", lambda: knot) is knot


def test_a_log_that_is_closed_meanwhile_costs_no_result(tmp_path: Path) -> None:
    """An hour of work belongs to the caller, whatever became of the log."""
    log = eventlog.open(tmp_path / "log.db")
    run = log.run(RUN)

    def work() -> int:
        log.close()
        return 42

    with suppress(eventlog.LogClosedError), run:
        assert run.step("a", work) == 42


# -- flows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_step", [False, True])
def test_kickoffs_after_a_step_in_a_method_get_their_own_answers(tmp_path: Path, is_step: bool) -> None:
    """A step that is done kicks nothing off: the kickoffs after it must not move up into its place."""
    script = ["answer 1", "answer 2", Dies(), "answer 3"]

    def result(team: Team) -> Any:
        class Asks(Flow[Any]):
            @start()
            def go(self) -> list[str]:
                def first() -> str:
                    return str(team.crew("1", tasks=1).kickoff())

                one = run.step("one", first) if is_step else first()
                return [one, *(str(team.crew(text, tasks=1).kickoff()) for text in ("2", "3"))]

        with eventlog.open(tmp_path / "log.db") as log, log.run(RUN) as run:
            return run.kickoff(Asks())

    with pytest.raises(Dies):
        result(Team(script=script))
    again = Team(script=["answer 3"])

    assert result(again) == ["answer 1", "answer 2", "answer 3"]
    assert again.calls == 1


# -- claims -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["return", "raise", "exit"])
def test_a_forked_child_that_comes_back_leaves_the_item_to_its_parent(log: eventlog.Log, how: str) -> None:
    """However it leaves: it does not complete, fail or release what its parent is doing."""

    def work() -> str:
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            return "parent"
        if how == "raise":
            raise ValueError
        if how == "exit":
            raise SystemExit
        return "child"

    parent = os.getpid()
    with log.run(RUN) as run:
        try:
            result = run.step("a", work)
        finally:
            if os.getpid() != parent:
                os._exit(0)
        item = run.session().item("a")

    assert (result, item.output, item.attempts) == ("parent", "parent", 1)


def test_an_item_that_one_thread_took_is_not_done_by_another(log: eventlog.Log) -> None:
    """Two threads find the same item laid down: only one picks it up."""
    bodies: list[int] = []
    with log.run(RUN, items=["a"]) as run:
        loop = run.take()
        next(loop)
        together, pick_up = threading.Barrier(2), run._at_desk().steps.claims.pick_up

        def pick_up_together(item: str) -> str | None:
            together.wait(10)
            return pick_up(item)

        run._at_desk().steps.claims.pick_up = pick_up_together  # type: ignore[method-assign]

        def work() -> int:
            run._at_desk().steps.claims.pick_up = pick_up  # type: ignore[method-assign]
            bodies.append(1)
            return len(bodies)

        results: list[int] = []
        call: Callable[[], None] = run.bind(lambda: results.append(run.step("a", work)))
        threads = [threading.Thread(target=call) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    assert (bodies, results) == ([1], [1, 1])


def test_a_fork_inherits_nobodys_item(log: eventlog.Log) -> None:
    """A step forks its own run and does the same item there: on the fork nobody has it."""

    def work() -> str:
        if "other" in {info.branch for info in log.branches(RUN)}:
            return "on the fork"
        log.fork(RUN, branch="other")
        with log.run(RUN, branch="other") as fork:
            return f"main, and {fork.step('a', work)}"

    with log.run(RUN) as run:
        assert run.step("a", work) == "main, and on the fork"


def test_another_run_object_inside_of_a_step_does_not_wait_for_it(log: eventlog.Log) -> None:
    """It is the same item: an error, not a wait for ever."""

    def work() -> Any:
        with log.run(RUN) as same:
            return same.step("a", work)

    with log.run(RUN) as run, pytest.raises(eventlog.StepError, match="inside itself"):
        run.step("a", work)


def test_a_step_that_is_cancelled_while_it_claims_leaves_nothing_claimed(log: eventlog.Log) -> None:
    """The thread that claims goes on when nobody waits for it any more; its claim is given back."""

    async def work() -> int:
        return 1

    async def cancelled() -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(run.astep("a", work), timeout=0)

    with log.run(RUN) as run:
        asyncio.run(cancelled())
        assert asyncio.run(run.astep("a", work, wait=False)) == 1


def test_an_interrupt_right_after_a_claim_gives_it_back(log: eventlog.Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C before the function is called: a notebook must not wait for ever afterwards."""

    def interrupt(*_args: object) -> None:
        raise KeyboardInterrupt

    with log.run(RUN) as run:
        monkeypatch.setattr(engine, "StepDirector", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run.step("a", one)
        monkeypatch.setattr(engine, "StepDirector", StepDirector)

        assert run.step("a", one, wait=False) == 1


def test_looking_at_a_ledger_in_a_re_execution_writes_nothing(log: eventlog.Log) -> None:
    """``log.ledger(run)`` speaks there of what is executed again, as the run does."""
    with log.run(RUN, items=["a"]) as run:
        run.step("a", one)
    before = len(list(log.events()))
    with log.reexecuting(RUN):
        log.ledger(RUN).note("again")

    assert len(list(log.events())) == before
    assert log.ledger(RUN).session().notes == []


@pytest.mark.parametrize("how", ["invalidated", "refused"])
def test_a_step_that_was_done_anew_is_executed_again_as_it_was_done_last(log: eventlog.Log, how: str) -> None:
    """What its earlier rounds asked need not come again; what counts does, and is answered from the log."""
    team = Team(script=["first", "second"])
    refuses = [how == "refused"]

    def work(crews: Team) -> str:
        answer = str(crews.crew("a", tasks=1).kickoff())
        if refuses.pop() if refuses else False:
            raise ValueError(answer)
        return answer

    with log.run(RUN) as run:
        run.step("a", work, team, retries=1)
        if how == "invalidated":
            run.invalidate("a")
            run.step("a", work, team)
    again = Team(script=[])
    with log.reexecuting(RUN) as executed, log.run(RUN) as run:
        result = run.step("a", work, again)

    assert (result, again.calls) == ("second", 0)
    assert executed.ok
