"""A kickoff that dies of what CrewAI does not catch leaves no trace in the next one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from crewai import Agent, Crew, Task
from crewai.events.event_context import get_current_parent_id
from crewai.flow.flow import Flow, start
from crewai.tools import tool

import eventlog
from eventlog import Event, EventLogListener, ExecutionInfo, Log
from eventlog.testing import ScriptedLLM, final, tool_call


def crew(death: BaseException | None = None) -> Crew:
    """Return a crew whose only tool raises."""

    @tool("fatal")
    def fatal(q: str) -> str:
        """Do it."""
        if death is not None:
            raise death
        return "alive"

    llm = ScriptedLLM(script=[tool_call("fatal", q="x"), final("done")])
    agent = Agent(role="Writer", goal="Write", backstory="Old", llm=llm, tools=[fatal])
    return Crew(name="crew", agents=[agent], tasks=[Task(description="Do it", expected_output="Text", agent=agent)])


class Nested(Flow[Any]):
    """A flow that kicks off a crew."""

    death: BaseException | None = None

    @start()
    def begin(self) -> str:
        """Run the crew."""
        return str(crew(self.death).kickoff())


@pytest.fixture
def log(tmp_path: Path) -> Any:
    """A log of this process."""
    with eventlog.open(tmp_path / "log.db") as log:
        yield log


def is_late(event: Event, first: ExecutionInfo) -> bool:
    """Whether an event is a last word of the dead execution: its model call goes on in a thread."""
    return event.path.startswith(first.path + "/") and event.type in ("llm_call_completed", "eventlog.llm_exchange")


def check_two_roots(log: Log, run: str) -> None:
    """Assert that the first execution was interrupted and the second is a root that completed."""
    first, second = [e for e in log.executions(run) if e.parent is None]
    events = list(log.events(run))
    aborted = [e for e in events if e.type == "eventlog.execution_aborted"]
    roots = [e for e in events if e.type == "crew_kickoff_started"]

    assert (first.status, second.status) == ("interrupted", "completed")
    assert aborted[0].path == first.path
    assert [e.path for e in roots] == [first.path, second.path]
    assert [e.parent_event_id for e in roots] == [None, None]
    assert all(e.path.startswith(second.path) for e in events if e.seq > roots[1].seq and not is_late(e, first))
    assert get_current_parent_id() is None


@pytest.mark.parametrize("death", [SystemExit(3), KeyboardInterrupt()])
def test_the_kickoff_after_a_dead_one_is_a_root_of_its_own(log: Log, death: BaseException) -> None:
    """CrewAI leaves the dead kickoff's scopes on its stack, and the next one claims to be inside them.

    Seen to fail: without ``restore_event_scope`` in the kickoff wrapper.
    """
    with log.run("r"):
        with pytest.raises(type(death)):
            crew(death).kickoff()
        crew().kickoff()

    check_two_roots(log, "r")
    assert log.runs()[0].status == "completed"


def test_a_cancelled_kickoff_is_aborted_too(log: Log) -> None:
    """Cancellation is a BaseException; it hits the coroutine wherever it waits."""

    async def both() -> None:
        slow = Agent(role="Writer", goal="Write", backstory="Old", llm=ScriptedLLM(delay=1))
        task = Task(description="Do it", expected_output="Text", agent=slow)
        dying = asyncio.create_task(Crew(name="crew", agents=[slow], tasks=[task]).akickoff())
        while not any(e.type == "llm_call_started" for e in log.events("r")):  # noqa: ASYNC110 - the log tells
            await asyncio.sleep(0.02)
        dying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dying
        await crew().akickoff()

    with log.run("r"):
        asyncio.run(both())

    check_two_roots(log, "r")


def test_a_dead_kickoff_inside_a_flow_takes_the_flow_with_it(log: Log) -> None:
    """Both executions are interrupted, the inner one first."""
    flow = Nested()
    flow.death = SystemExit(1)
    with log.run("r"), pytest.raises(SystemExit):
        flow.kickoff()

    found = {e.kind: e for e in log.executions("r")}
    assert {kind: e.status for kind, e in found.items()} == {"flow": "interrupted", "crew": "interrupted"}
    assert found["crew"].parent == found["flow"].path
    assert [e.path for e in log.events("r", types=["eventlog.execution_aborted"])] == [
        found["crew"].path,
        found["flow"].path,
    ]
    assert log.runs()[0].status == "interrupted"


def test_kickoffs_outside_any_run_get_runs_of_their_own_after_an_abort(log: Log) -> None:
    """A listener mints a run per kickoff; the dead one must not swallow the next."""
    listener = EventLogListener(log, signals=False)
    with pytest.raises(SystemExit):
        crew(SystemExit(1)).kickoff()
    crew().kickoff()
    listener.close()

    assert [(run.status, run.executions, run.attribution) for run in log.runs()] == [
        ("interrupted", 1, "minted"),
        ("completed", 1, "minted"),
    ]


def test_an_ordinary_failure_is_no_abort(log: Log) -> None:
    """CrewAI says itself that it failed."""
    with log.run("r"):
        agent = Agent(role="Writer", goal="Write", backstory="Old", llm=ScriptedLLM(script=[ValueError("no")] * 9))
        task = Task(description="Do it", expected_output="Text", agent=agent)
        with pytest.raises(ValueError, match="no"):
            Crew(agents=[agent], tasks=[task]).kickoff()

    assert [e.status for e in log.executions("r")] == ["failed"]
    assert list(log.events("r", types=["eventlog.execution_aborted"])) == []
