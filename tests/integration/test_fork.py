"""Branches from any event of real crews: nothing is copied, and edits invalidate what was derived from them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from crewai import Agent, Crew, Task
from crewai.tasks.conditional_task import ConditionalTask

import eventlog
from eventlog.errors import BranchExistsError, BranchNameError, CursorNotFoundError, EditError, SequenceConflictError
from eventlog.replay.rebuild import rebuild_state
from eventlog.replay.state import RunState
from eventlog.testing import ScriptedLLM, final
from tests.integration.recording import record
from tests.verifying import problems, query

RUN = "r"
ROWS = "SELECT * FROM events WHERE branch IN (SELECT id FROM branches WHERE name = 'main') ORDER BY seq"


def statuses(state: RunState) -> dict[str, str]:
    """Return the status of each task by its name."""
    return {task.name: task.status for task in state.tasks}


def outputs(state: RunState) -> list[Any]:
    """Return the tasks' outputs."""
    return [task.output for task in state.tasks]


def research(log: eventlog.Log) -> None:
    """Run five tasks, of which some use others: a → b → d, c alone, e conditional after d."""
    llm = ScriptedLLM(script=lambda messages, _tools: final(f"about {len(str(messages))}"))
    agents = [
        Agent(role=role, goal="Work", backstory="Old", llm=llm, allow_delegation=False)
        for role in ("Plain", "Lover of {drink}")
    ]
    made: dict[str, Task] = {}

    def task(name: str, description: str, agent: int = 0, context: Any = ()) -> None:
        made[name] = Task(
            name=name, description=description, expected_output="Text", agent=agents[agent],
            context=[made[c] for c in context],
        )  # fmt: skip

    task("a", "Find {topic}")
    task("b", "Use a", context="a")
    task("c", "Alone", agent=1)
    task("d", "Use b", context="b")
    made["e"] = ConditionalTask(
        name="e", description="Maybe", expected_output="Text", agent=agents[0], condition=lambda _: True, context=[]
    )
    crew = Crew(name="research", agents=agents, tasks=list(made.values()))
    with log.run(RUN):
        crew.kickoff({"topic": "tea", "drink": "coffee"})


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five tasks, recorded once."""
    path = tmp_path_factory.mktemp("research") / "log.db"
    with eventlog.open(path) as log:
        research(log)
    return path


@pytest.fixture
def log(recorded: Path, tmp_path: Path) -> Iterator[eventlog.Log]:
    """Yield a copy of it."""
    with closing(sqlite3.connect(recorded)) as source, closing(sqlite3.connect(tmp_path / "log.db")) as copy:
        source.backup(copy)
    with eventlog.open(tmp_path / "log.db") as log:
        yield log


def test_a_fork_is_one_row_and_leaves_its_parent_as_it_is(log: eventlog.Log) -> None:
    """No event is copied and none is made."""
    before, branches = query(log.path, ROWS), len(log.branches(RUN))
    info = log.fork(RUN, to=20, branch="what-if")

    assert (info.branch, info.parent, info.fork_seq, info.last_seq, info.events) == ("what-if", "main", 20, 20, 0)
    assert query(log.path, ROWS) == before
    assert len(log.branches(RUN)) == branches + 1


def test_edits_are_one_event_in_the_same_transaction(log: eventlog.Log) -> None:
    """Either the fork is there as it was asked for, or not at all."""
    log.fork(RUN, branch="edited", outputs={"a": "new"}, inputs={"topic": "milk"})
    [event] = [e for e in log.events(RUN, "edited") if e.branch == "edited"]

    assert event.type == "eventlog.fork_edited"
    assert set(event.payload) == {"execution", "inputs", "outputs", "reset"}
    with pytest.raises(BranchExistsError):
        log.fork(RUN, branch="edited", outputs={"a": "newer"})
    with pytest.raises(EditError):
        log.fork(RUN, branch="unknown", outputs={"nobody": "newer"})
    assert [b.branch for b in log.branches(RUN)] == ["main", "edited"]
    assert list(problems(log.path)) == []


@pytest.mark.parametrize(
    ("inputs", "edited", "again"),
    [
        ({}, "a", "bde"),
        ({}, "b", "de"),
        ({}, "c", ""),
        ({}, "d", "e"),
        ({}, "ab", "de"),
        ({"topic": "milk"}, "", "abde"),
        ({"drink": "milk"}, "", "c"),
        ({"unused": 1}, "", ""),
        ({"topic": "milk"}, "a", "bde"),
        ({"topic": "milk", "drink": "milk"}, "b", "acde"),
    ],
)
def test_what_used_an_edited_value_runs_again_and_nothing_else(
    log: eventlog.Log, inputs: dict[str, Any], edited: str, again: str
) -> None:
    """Through any number of steps. Seen to fail: when the context of a task is not followed on."""
    before = {task.name: task.output for task in log.state(RUN).tasks}
    log.fork(RUN, branch="x", inputs=inputs, outputs=dict.fromkeys(edited, "EDITED"))
    state = log.state(RUN, branch="x")

    assert "".join(n for n, status in statuses(state).items() if status == "pending") == again
    for task in state.tasks:
        expected = "EDITED" if task.name in edited else None if task.name in again else before[task.name]
        assert (task.name, task.output) == (task.name, expected)
    assert state.inputs == {"topic": "tea", "drink": "coffee", **inputs}
    assert (state.status, state.error) == ("interrupted", None)
    assert log.branches(RUN)[1].status == "interrupted"
    assert [e.status for e in log.executions(RUN, branch="x")] == ["running"]
    assert [e.status for e in log.executions(RUN)] == ["completed"]


@pytest.mark.parametrize("name", ["b", "#2", "KEY", "KEY-PREFIX", "PATH"])
def test_a_task_has_many_names(log: eventlog.Log, name: str) -> None:
    """As it is shown: by name, position, key, path."""
    task = log.state(RUN).tasks[1]
    chosen = {"KEY": task.key, "KEY-PREFIX": task.key[:6], "PATH": task.path}.get(name, name)
    log.fork(RUN, outputs={chosen: "EDITED"})

    assert outputs(log.state(RUN, branch="fork-1"))[1] == "EDITED"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"branch": ""}, BranchNameError, "cannot be called"),
        ({"branch": "a/b"}, BranchNameError, "a/b"),
        ({"branch": "a@3"}, BranchNameError, "a@3"),
        ({"branch": "main"}, BranchExistsError, "has a branch 'main' already"),
        ({"outputs": {"nobody": "x"}}, EditError, "no task 'nobody' .* there are: a .*, b .*, c "),
        ({"outputs": {"Plain": "x"}}, EditError, "4 tasks match 'Plain'; take one of: a "),
        ({"outputs": {"#9": "x"}}, EditError, "no task '#9'"),
        ({"outputs": {"a": 3}}, EditError, "must be text, not int"),
        ({"outputs": {"a": "x", "#1": "y"}}, EditError, "twice"),
        ({"to": 0, "outputs": {"a": "x"}}, EditError, "there are none at event 0"),
        ({"to": 0, "inputs": {"a": "x"}}, EditError, "nothing was kicked off"),
        ({"to": 10**6}, CursorNotFoundError, "1000000"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_remedy(
    log: eventlog.Log, options: dict[str, Any], error: type[eventlog.EventLogError], words: str
) -> None:
    """One line that says what there is instead; nothing is written."""
    before = query(log.path, "SELECT count(*) FROM branches")
    with pytest.raises(error, match=words) as caught:
        log.fork(RUN, **options)

    assert caught.value.hint
    assert query(log.path, "SELECT count(*) FROM branches") == before


def test_names_are_made_up_when_none_is_given(log: eventlog.Log) -> None:
    """The first that is free."""
    made = [log.fork(RUN, branch=name).branch for name in (None, "fork-3", None, None)]

    assert made == ["fork-1", "fork-3", "fork-4", "fork-5"]


def test_a_long_output_is_stored_once_and_shown_whole(log: eventlog.Log) -> None:
    """Texts of edits go the way of all texts, also after a fork that was refused."""
    text = "long " * 5_000
    with pytest.raises(BranchExistsError):
        log.fork(RUN, branch="main", outputs={"a": text})
    log.fork(RUN, outputs={"a": text})
    log.fork(RUN, outputs={"c": text})

    assert outputs(log.state(RUN, branch="fork-1"))[0] == outputs(log.state(RUN, branch="fork-2"))[2] == text
    assert query(log.path, "SELECT count(*) FROM contents WHERE length(body) >= 25000") == [(1,)]


def test_a_secret_in_an_edit_does_not_reach_the_disk(log: eventlog.Log) -> None:
    """Edits are redacted like everything else."""
    secret = "sk-" + "abcdefghij1234567890" * 2
    log.fork(RUN, inputs={"api_key": "hunter2-hunter2", "topic": "tea"}, outputs={"a": f"use {secret}"})
    log.flush()

    stored = log.path.read_bytes() + log.path.with_name("log.db-wal").read_bytes()
    assert secret.encode() not in stored
    assert b"hunter2-hunter2" not in stored


def test_the_first_event_of_a_fork_may_expect_the_fork(log: eventlog.Log) -> None:
    """``expected_seq`` is what ``log.branches`` calls the last seq."""
    info = log.fork(RUN, to=20)
    with pytest.raises(SequenceConflictError):
        log.append("x.y", run=RUN, branch="fork-1", expected_seq=0)

    assert log.append("x.y", run=RUN, branch="fork-1", expected_seq=info.last_seq) > info.last_seq
    assert list(problems(log.path)) == []


def test_an_execution_may_end_on_the_fork_alone(log: eventlog.Log) -> None:
    """Parent and child disagree about one kickoff, and both are right."""
    start = log.executions(RUN)[0]
    log.fork(RUN, to=start.started_seq + 10, branch="x")
    [before] = log.executions(RUN, branch="x")
    labels = tuple(start.path.split("/")[1:])
    event = eventlog.record.NewEvent(
        type="crew_kickoff_failed", event_id="end", at_ns=1, payload=b"{}", run=RUN, branch="x", path=labels,
        closes=(labels, "failed"),
    )  # fmt: skip
    [seq] = log.writer.pipeline.submit([event])
    [after], [parent] = log.executions(RUN, branch="x"), log.executions(RUN)

    assert (before.status, before.ended_seq) == ("running", None)
    assert (after.status, after.started_seq, after.ended_seq) == ("failed", start.started_seq, seq)
    assert parent == start
    assert log.reader.root_labels(log.reader.branch_id(RUN, "x")) == log.reader.root_labels(
        log.reader.branch_id(RUN, "main")
    )


def test_forks_of_forks_see_their_own_past_only(log: eventlog.Log) -> None:
    """Also when the cursor lies before the branch they come from began."""
    log.fork(RUN, to=40, branch="a", outputs={"a": "A"})
    log.fork(RUN, parent="a", branch="b", outputs={"b": "B"})
    log.fork(RUN, parent="b", branch="c", to=20)
    log.append("x.y", {"n": 1}, run=RUN, branch="c")
    log.append("x.y", {"n": 2}, run=RUN, branch="a")

    assert outputs(log.state(RUN, branch="b"))[:2] == ["A", "B"]
    assert [e.seq for e in log.events(RUN, "c")][:-1] == list(range(1, 21))
    assert log.state(RUN, branch="c").user_types == {"x.y": 1}
    assert "x.y" not in log.state(RUN, branch="b").user_types
    assert list(problems(log.path)) == []


@pytest.mark.parametrize("scenario", ["sequential_native", "flow_with_crew", "async_tasks"])
def test_a_fork_at_every_cursor_begins_with_the_parents_state(scenario: str, tmp_path: Path) -> None:
    """Mid-task, mid-call, at the end; and the parent is byte-identical after all of them."""
    done = record(scenario, tmp_path)
    before = query(done.log.path, ROWS)
    for event in done.events:
        info = done.log.fork(RUN, to=event.seq)
        reader = done.log.reader
        parent, child = (rebuild_state(reader, RUN, b, event.seq) for b in ("main", info.branch))
        assert msgspec.structs.replace(child, branch="main") == parent
        tasks = done.log.state(RUN, to=event.seq).tasks
        if tasks:
            edited = done.log.fork(RUN, to=event.seq, outputs={"#1": "EDITED"})
            state = done.log.state(RUN, branch=edited.branch)
            assert (state.tasks[0].status, state.tasks[0].output) == ("completed", "EDITED")
            assert state.malformed == 0
    assert query(done.log.path, ROWS) == before
    assert list(problems(done.log.path)) == []
    done.log.close()


def test_edited_inputs_of_a_flow_reset_all_tasks_below_it(tmp_path: Path) -> None:
    """What a method makes of them nobody can know."""
    done = record("flow_with_crew", tmp_path)
    done.log.fork(RUN, branch="x", inputs={"topic": "milk"})
    before, state = done.log.state(RUN), done.log.state(RUN, branch="x")

    assert {task.status for task in before.tasks} == {"completed"}
    assert {task.status for task in state.tasks} == {"pending"}
    assert {e.status for e in state.executions if e.kind in ("flow", "crew")} == {"running"}
    assert state.inputs["topic"] == "milk"
    done.log.close()
