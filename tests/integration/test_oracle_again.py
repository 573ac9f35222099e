"""Objects used a second time, paused, copied or shared by threads keep their own places in the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from crewai import Crew
from crewai.flow.async_feedback.types import HumanFeedbackPending
from crewai.flow.flow import listen, start
from crewai.flow.human_feedback import human_feedback
from crewai.tools import tool

import eventlog
from tests.integration.recording import record
from tests.scenarios import World
from tests.scenarios.crews import TOPIC, step
from tests.scenarios.flows import DictFlow


@pytest.fixture
def log(tmp_path: Path) -> Any:
    """An empty log."""
    with eventlog.open(tmp_path / "log.db") as opened:
        yield opened


def crew_of(world: World, **options: Any) -> Crew:
    """Return a crew of two tasks."""
    agent = world.agent()
    return Crew(agents=[agent], tasks=[step(agent, 0, **options), step(agent, 1, **options)])


def test_the_second_kickoff_of_a_crew_is_an_execution_with_a_definition_of_its_own(log: eventlog.Log) -> None:
    """Its tasks start again as pending, and what the first one did stays as it was."""
    crew = crew_of(World())
    with log.run("r"):
        crew.kickoff(TOPIC)
        first = log.state("r")
        crew.kickoff({"topic": "milk"})
    defined = [e.path for e in log.events("r", types=["eventlog.definition"])]
    starts = [e.seq for e in log.events("r", types=["eventlog.definition"])]
    again, end = log.state("r", to=starts[-1]), log.state("r")
    paths = [info.path for info in log.executions("r")]

    assert defined == paths
    assert paths[0].replace("#0", "#1") == paths[1]
    assert [t.status for t in again.tasks] == ["completed", "completed", "pending", "pending"]
    assert end.tasks[:2] == first.tasks
    assert [t.description for t in end.tasks[2:]] == ["Do step 0 about milk", "Do step 1 about milk"]
    assert end.inputs == {"topic": "milk"}


def test_two_copies_with_equal_inputs_are_two_executions(log: eventlog.Log) -> None:
    """The hash of the inputs tells copies apart, the ordinal those that have the same."""
    with log.run("r"):
        crew_of(World()).kickoff_for_each([TOPIC, {"topic": "milk"}, TOPIC])
    labels = [info.path[1:] for info in log.executions("r")]

    assert labels[0].replace("#0", "#1") == labels[2]
    assert labels[1].endswith("#0")
    assert labels[1] != labels[0]


def test_two_tasks_of_the_same_words_are_told_apart_by_their_order(log: eventlog.Log) -> None:
    """They share CrewAI's key."""
    agent = World().agent()
    with log.run("r"):
        Crew(agents=[agent], tasks=[step(agent), step(agent)]).kickoff(TOPIC)
    tasks = log.state("r").tasks

    assert [t.status for t in tasks] == ["completed", "completed"]
    assert tasks[0].path.removesuffix("#0") == tasks[1].path.removesuffix("#1")
    assert tasks[0].output != tasks[1].output


def test_a_task_keeps_its_place_when_the_planner_rewrites_it(log: eventlog.Log) -> None:
    """Without inputs CrewAI's key changes with the plan, and no plan is like another."""
    world = World()
    plans = [{"task_number": 1, "task": "step 0", "plan": " Think."}]
    planner = world.llm(script=lambda messages, tools: {"list_of_plans_per_task": plans})
    agent = world.agent()
    crew = Crew(agents=[agent], tasks=[step(agent, description="Write")], planning=True, planning_llm=planner)
    key = crew.tasks[0].key
    with log.run("r"):
        crew.kickoff()
    row = log.state("r").tasks[0]

    assert crew.tasks[0].key != key
    assert (row.key, row.status) == (key, "completed")
    assert f"/task[{key[:8]}]#0" in row.path


@pytest.mark.parametrize("text", ["at 2026-01-15 10:22", "0x7f3a5c001d90"])
def test_a_description_that_is_new_in_every_process_has_the_same_place(log: eventlog.Log, text: str) -> None:
    """Times and addresses in a text are not what it is about; an id may be."""
    for run, words in (("a", text), ("b", text[:-1] + "1")):
        with log.run(run):
            crew_of(World(), description=f"Write {words}").kickoff()
    places = [[event.path for event in log.events(run)][-10:] for run in "ab"]

    assert places[0] == places[1]
    assert [t.status for t in log.state("b").tasks] == ["completed", "completed"]


class Later:
    """Asks a person who is not there yet."""

    def request_feedback(self, context: Any, flow: Any) -> str:
        """Pause the flow."""
        raise HumanFeedbackPending(context=context)


class Paused(DictFlow):
    """Waits for feedback, then goes on."""

    @start()
    @human_feedback(message="Good?", provider=Later())
    def write(self) -> str:
        """Write a draft."""
        self.state["draft"] = 1
        return "draft"

    @listen(write)
    def publish(self, result: Any) -> str:
        """Use the feedback."""
        self.state["published"] = True
        return str(result.feedback)


def test_a_flow_that_is_resumed_after_a_pause_is_the_same_execution(log: eventlog.Log) -> None:
    """CrewAI emits ``flow_started`` again, from another object."""
    with log.run("r"):
        pending = Paused().kickoff()
        paused = log.state("r")
        Paused().kickoff()
        result = Paused.from_pending(pending.context.flow_id).resume("fine")
    state = log.state("r")
    rows = [(row.path, row.status) for row in state.executions]

    assert result == "fine"
    assert paused.status == "paused"
    assert paused.flow_state["draft"] == 1
    assert rows == [("/flow:Paused#0", "completed"), ("/flow:Paused#1", "paused")]
    assert [(m.execution, m.name, m.runs) for m in state.methods] == [
        ("/flow:Paused#0", "write", 2),
        ("/flow:Paused#1", "write", 1),
        ("/flow:Paused#0", "publish", 1),
    ]
    assert [info.status for info in log.executions("r")] == ["completed", "paused"]


def test_tools_that_run_in_threads_have_a_scope_each(tmp_path: Path) -> None:
    """The exchange lies in the scope of its own call, and in no other thread's."""
    recorded = record("native_parallel_tools", tmp_path)
    with recorded.log as log:
        started = {e.path: e.payload["tool_args"] for e in log.events("r", types=["tool_usage_started"])}
        exchanges = list(log.events("r", types=["eventlog.tool_exchange"]))

    assert len({e.path for e in exchanges}) == len(exchanges) == 3
    assert all(str(e.payload["args"]["q"]) in str(started[e.path]) for e in exchanges)


def test_every_try_of_an_agent_is_counted_for_its_task(tmp_path: Path) -> None:
    """``agent_execution_started`` says in its payload only which task it is about."""
    for name, tries in (("guardrail_retry", [2]), ("failing_task", [1, 3]), ("hierarchical", [1])):
        (tmp_path / name).mkdir()
        recorded = record(name, tmp_path / name)
        with recorded.log as log:
            assert [task.attempts for task in log.state("r").tasks] == tries


@pytest.mark.parametrize(("native", "runs_per_use"), [(False, 2), (True, 1)])
def test_every_run_of_a_tool_that_fails_is_an_exchange(log: eventlog.Log, *, native: bool, runs_per_use: int) -> None:
    """In ReAct CrewAI runs a failing tool twice before it tells of one use; the log has the runs and the uses."""
    world, runs = World(), []

    @tool("lookup")
    def lookup(q: str) -> str:
        """Look up a fact."""
        runs.append(q)
        raise ConnectionError("no network")

    agent = world.agent(llm=world.llm(tool_rounds=1, native=native), tools=[lookup])
    with log.run("r"):
        Crew(agents=[agent], tasks=[step(agent)]).kickoff(TOPIC)
    used = log.state("r").tools
    exchanges = [event.payload for event in log.events("r", types=["eventlog.tool_exchange"])]

    assert len(exchanges) == len(runs) > 0
    assert [(row.name, row.calls * runs_per_use, row.errors * runs_per_use) for row in used] == [
        ("lookup", len(runs), len(runs))
    ]
    assert all(e["error"]["$error"] == "builtins:ConnectionError" for e in exchanges)
