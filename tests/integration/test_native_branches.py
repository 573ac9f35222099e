"""What CrewAI restores from a log goes on in a branch of the run, at that cursor, while something records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from crewai import Agent, Crew, Task
from crewai.events.event_bus import crewai_event_bus
from crewai.events.types.agent_events import AgentExecutionCompletedEvent

import eventlog
from eventlog.testing import ScriptedLLM, final
from tests.integration.native import RUN, config, record, rows
from tests.scenarios import World


@contextmanager
def listening(db: Path, how: str) -> Iterator[eventlog.Log]:
    """Record with a listener, inside the same run, or inside another."""
    if how == "listener":
        listener = eventlog.EventLogListener(db)
        yield listener.log
        listener.close()
    else:
        with eventlog.open(db) as log, log.run(how):
            yield log


@pytest.mark.parametrize("how", ["listener", RUN, "other"])
def test_a_restored_crew_opens_a_branch_at_its_cursor(tmp_path: Path, how: str) -> None:
    """Not a new run: the branch inherits the finished task and holds the rest; the parent stays as it was."""
    db = tmp_path / "x.db"
    scenario, result = record(db, "sequential_react")
    first = rows(db)[0]
    with listening(db, how) as log:
        before = [event.event_id for event in log.events(RUN)]
        crew = Crew.from_checkpoint(config(db, first))
        again = crew.kickoff(inputs=scenario.inputs)
        info = next(info for info in log.branches(RUN) if info.branch != "main")
        state = log.state(RUN, branch=info.branch)
        kept = [event.event_id for event in log.events(RUN)]
        beside = [e.type for e in log.events() if e.event_id not in before and e.branch != info.branch]

    assert str(again) == str(result)
    assert kept[: len(before)] == before
    assert set(beside) <= {"checkpoint_restore_started", "checkpoint_restore_completed"}
    assert (info.parent, info.fork_seq) == ("main", int(first.id[-8:], 16))
    assert (state.status, [task.status for task in state.tasks]) == ("completed", ["completed"] * 2)
    assert [execution.path for execution in state.executions] == [state.tasks[0].execution]
    assert rows(db)[-1].parent_id == first.id
    assert rows(db)[-1].branch == info.branch


def test_fork_names_the_branch_and_each_restore_has_its_own(tmp_path: Path) -> None:
    """``Crew.fork(branch=…)``; a name that is taken is minted, and so is the name CrewAI makes up."""
    db = tmp_path / "x.db"
    scenario, _ = record(db, "sequential_react")
    first = rows(db)[0]
    with listening(db, "listener") as log:
        for branch in ("exp", "exp", None):
            Crew.fork(config(db, first), branch=branch).kickoff(inputs=scenario.inputs)
        crew: Any = scenario.subject
        crew.kickoff(inputs=scenario.inputs, from_checkpoint=config(db, first, location=str(tmp_path / "cp")))
        made = [info for info in log.branches(RUN) if info.branch != "main"]

    assert made[0].branch == "exp"
    assert len({info.branch for info in made}) == 4
    assert {info.fork_seq for info in made} == {int(first.id[-8:], 16)}
    assert all(info.events > 20 for info in made)


def test_the_branch_is_this_processs_while_the_crew_goes_on(tmp_path: Path) -> None:
    """It is shown as running, not as left behind; afterwards nobody has it open."""
    db = tmp_path / "x.db"
    scenario, _ = record(db, "sequential_react")
    seen: set[tuple[str, str]] = set()
    with listening(db, "listener") as log:

        def look(_source: Any, _event: Any) -> None:
            seen.update((info.branch, info.status) for info in log.branches(RUN))

        crew = Crew.fork(config(db, rows(db)[0]), branch="exp")
        with crewai_event_bus.scoped_handlers():
            crewai_event_bus.on(AgentExecutionCompletedEvent)(look)
            crew.kickoff(inputs=scenario.inputs)
            crewai_event_bus.flush()
        owners = log.reader.query("SELECT owner FROM branches WHERE name = 'exp'")

    assert ("exp", "running") in seen
    assert ("exp", "interrupted") not in seen
    assert owners == [(None,)]


def test_two_crews_restored_before_either_runs_keep_apart(tmp_path: Path) -> None:
    """Both claim to be inside the same kickoff."""
    db = tmp_path / "x.db"
    scenario, _ = record(db, "sequential_react")
    first = rows(db)[0]
    with listening(db, "listener") as log:
        crews = [Crew.from_checkpoint(config(db, first)) for _ in range(2)]
        for crew in crews:
            crew.kickoff(inputs=scenario.inputs)
        counts = [info.events for info in log.branches(RUN)][1:]

    assert len(counts) == 2
    assert counts[0] == counts[1]


def test_a_restored_flow_goes_on_under_the_path_it_had(tmp_path: Path) -> None:
    """Its later checkpoints know the methods that were finished before."""
    db = tmp_path / "x.db"
    scenario, result = record(db, "flow_linear")
    first = rows(db)[0]
    with listening(db, "listener") as log:
        flow: Any = type(scenario.subject).from_checkpoint(config(db, first))  # type: ignore[union-attr]
        again = flow.kickoff(inputs=scenario.inputs)
        (info,) = [info for info in log.branches(RUN) if info.branch != "main"]
        state, runs = log.state(RUN, branch=info.branch), [run.run for run in log.runs()]

    assert (str(again), runs) == (str(result), [RUN])
    assert info.fork_seq == int(first.id[-8:], 16)
    assert len(state.executions) == 1
    assert [m["method"] for m in rows(db)[-1].entity["checkpoint_method_outputs"]] == ["first", "second", "third"]


def test_a_restored_agent_goes_on_in_a_branch(tmp_path: Path) -> None:
    """Like a crew, it emits no start of its own."""
    db = tmp_path / "x.db"
    scenario, result = record(db, "agent_kickoff", snapshot_on=["llm_call_completed"])
    with listening(db, "listener") as log:
        agent = Agent.from_checkpoint(config(db, rows(db)[0]))
        again = agent.kickoff(scenario.inputs)
        made = [info.branch for info in log.branches(RUN)]
        runs = [run.run for run in log.runs()]

    assert str(again) == str(result)
    assert (made, runs) == (["main", "fork-1"], [RUN])


def test_without_a_recorder_nothing_is_logged(tmp_path: Path) -> None:
    """CrewAI restores by itself; a log it was restored from is only read."""
    db = tmp_path / "x.db"
    scenario, _ = record(db, "sequential_react")
    with eventlog.open(db, readonly=True) as log:
        events = log.runs()[0].events
        Crew.from_checkpoint(config(db, rows(db)[0])).kickoff(inputs=scenario.inputs)
        assert (log.runs()[0].events, len(log.branches(RUN))) == (events, 1)


def test_a_context_of_a_task_that_still_has_to_run_is_that_task_again(tmp_path: Path) -> None:
    """CrewAI restores a copy of it, which never gets an output."""
    llm = ScriptedLLM(script=[final(word) for word in ("first", "second", "third", "second", "third")])
    agent = World().agent(llm=llm)
    tasks = [Task(description=f"Do {i}.", expected_output="x", agent=agent) for i in range(3)]
    tasks[2].context = [tasks[1]]
    with listening(tmp_path / "x.db", RUN):
        Crew(agents=[agent], tasks=tasks).kickoff()
    with listening(tmp_path / "x.db", "listener"):
        crew = Crew.from_checkpoint(config(tmp_path / "x.db", rows(tmp_path / "x.db")[0]))
        crew.kickoff()
    prompt = str(llm.calls[-1].messages)

    assert crew.tasks[2].context == [crew.tasks[1]]
    assert "second" in prompt
    assert "first" not in prompt
