"""At every event of every scenario, the state that is replayed is the state that was.

Where something runs beside the thread that emits, the truth at an event is an interval: what was over before it is
in the state, what had not begun after it is not. Everywhere else it is one value, and the state must have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from crewai import Crew

from eventlog.record import Event
from eventlog.replay.state import RunState, TaskState
from tests.integration.oracle import LiveTask, Look, Seen
from tests.integration.recording import CONCURRENT, Recorded, record
from tests.scenarios import NAMES

TOKENS = 15
"""Of each call of a scripted LLM."""
PROGRESS = {"pending": 0, "running": 1, "completed": 2, "failed": 2}
STARTS = ("crew_kickoff_started", "flow_started", "lite_agent_execution_started", "task_started")
ENDINGS = {
    "crew_kickoff_completed": "completed",
    "crew_kickoff_failed": "failed",
    "flow_finished": "completed",
    "lite_agent_execution_completed": "completed",
    "task_completed": "completed",
    "task_failed": "failed",
}


class Moment:
    """One cursor: the state there, and the looks of the oracle that enclose it."""

    def __init__(self, recorded: Recorded, event: Event, before: Look, after: Look) -> None:
        self.event, self.before, self.after = event, before, after
        self.state: RunState = recorded.log.state(recorded.run, to=event.seq)
        own, streams = event.type.startswith("eventlog."), event.type == "llm_stream_chunk"
        self.is_exact = recorded.scenario.name not in CONCURRENT and not own and not streams
        """Whether the live counters have one value here. Streaming, an LLM has its answer before it tells of it."""


class Case(msgspec.Struct, frozen=True):
    """A scenario that ran, and all its cursors."""

    recorded: Recorded
    moments: list[Moment]


@pytest.fixture(scope="module")
def cases() -> Iterator[dict[str, Case]]:
    """What was recorded so far: each scenario runs once for all tests here."""
    made: dict[str, Case] = {}
    yield made
    for case in made.values():
        case.recorded.log.close()


@pytest.fixture(params=NAMES)
def case(request: pytest.FixtureRequest, cases: dict[str, Case], tmp_path: Path) -> Case:
    """A scenario that ran."""
    name = request.param
    if name not in cases:
        recorded = record(name, tmp_path)
        cases[name] = Case(recorded, moments(recorded))
    return cases[name]


def moments(recorded: Recorded) -> list[Moment]:
    """Return every cursor. An event of the library's own stands between the events of the bus around it.

    With threads, the look after the event before it may be a late one: then only the look before that counts. And the
    look before the event after it may be an early one: its thread may have waited since. Then the look after counts.
    """
    late = recorded.scenario.name in CONCURRENT
    seen = {s.event_id: s for s in recorded.oracle.seen}
    known: list[Seen | None] = [seen.get(event.event_id) for event in recorded.events]
    found = []
    for position, event in enumerate(recorded.events):
        here = known[position]
        previous = here or next((s for s in reversed(known[:position]) if s), None)
        following = here or next((s for s in known[position:] if s), None)
        before = (
            (here or previous or recorded.oracle.seen[0]).before if here or late or not previous else previous.after
        )
        if here is None and following is not None:
            after = following.after if late else following.before
        else:
            after = here.after if here else recorded.oracle.look()
        found.append(Moment(recorded, event, before, after))
    return found


def test_calls_and_tokens_are_right_at_every_cursor(case: Case) -> None:
    """Costs are what people look at first; a call counts from its answer on."""
    for moment in case.moments:
        llm, before, after = moment.state.llm, moment.before, moment.after

        assert before.over <= llm.calls + llm.failed <= after.answered + after.failed
        assert llm.total_tokens == TOKENS * llm.calls
        if moment.is_exact:
            assert (llm.calls, llm.failed) == (after.answered, after.failed)
            assert llm.total_tokens == after.tokens or case.recorded.scenario.name == "kickoff_for_each"


def test_tools_are_counted_at_every_cursor(case: Case) -> None:
    """A use of a tool counts from its end on."""
    for moment in case.moments:
        calls = sum(tool.calls for tool in moment.state.tools if tool.name == "lookup")

        assert calls <= moment.after.tool_runs
        if moment.is_exact:
            assert calls == moment.after.tool_runs


def test_tasks_have_the_status_and_output_of_the_live_tasks_at_every_cursor(case: Case) -> None:
    """What is done and what came out of it is what a person resumes from."""
    places = {event.event_id: event.path for event in case.recorded.events}
    for moment in case.moments:
        for started, live in moment.after.tasks.items():
            rows = [row for row in moment.state.tasks if row.execution == places[started]][: len(live)]

            assert len(rows) in (0, len(live))
            for row, task in zip(rows, live, strict=False):
                assert_task_is(row, task, moment)


def assert_task_is(row: TaskState, task: LiveTask, moment: Moment) -> None:
    """Compare one task with the live one: at least what was told of it, at most what it is."""
    told = moment.before.told.get(task.id, "pending")
    status = "pending" if row.status == "skipped" else row.status  # a live task does not know that it was skipped

    assert PROGRESS[told] <= PROGRESS[status] <= PROGRESS[task.status]
    assert row.output == (task.output if status == "completed" else None)
    if moment.is_exact:
        assert status == task.status


def test_the_state_of_a_flow_is_right_at_every_cursor(case: Case) -> None:
    """Also inside a method, where no event of CrewAI carries it."""
    for moment in case.moments:
        logged: Any = moment.state.flow_state
        before, after = moment.before.flow_state, moment.after.flow_state
        if logged is None or after is None:  # before the first method
            continue
        for key in {*logged, *(before or {}), *after}:
            assert logged.get(key) in ((before or {}).get(key), after.get(key)), (moment.event.type, key)


def test_a_kickoff_is_running_until_the_event_that_ends_it(case: Case) -> None:
    """The status changes there, not before, and the run follows its last root."""
    started: dict[str, str] = {}
    last = ""
    for moment in case.moments:
        event, state = moment.event, moment.state
        if event.type in ENDINGS and event.path in started:
            started[event.path] = ENDINGS[event.type]
        elif event.type in STARTS and event.path in {row.path for row in state.executions}:
            started[event.path] = "running"
            last = event.path if event.path.count("/") == 1 else last

        assert {row.path: row.status for row in state.executions} == started
        if started:  # a run without any kickoff has nothing to be running or done
            assert state.status == started[last]


def test_at_the_end_everything_is_as_the_live_objects_are(case: Case) -> None:
    """Nothing is left open, unknown, malformed or missing; descriptions and roles are those that ran."""
    recorded, state = case.recorded, case.recorded.log.state("r")
    scenario, places = recorded.scenario, {event.event_id: event.path for event in recorded.events}
    lookups = sum(tool.calls for tool in state.tools if tool.name == "lookup")

    assert (state.llm.calls + state.llm.failed, lookups) == (scenario.llm_calls, scenario.tool_runs)
    assert (state.open, state.unknown_types, state.malformed, state.gaps) == ([], {}, 0, [])
    assert state.event_count == len(recorded.events)
    for started, source in recorded.oracle.roots.items():
        tasks = source.tasks if isinstance(source, Crew) else [source]
        rows = [row for row in state.tasks if row.execution == places[started]]
        for row, task in zip(rows, tasks, strict=False):
            if row.status == "completed" and task.output is not None:
                assert (row.key, row.description, row.agent) == (task.key, task.description, task.output.agent)


def test_methods_have_the_results_the_live_flow_has(case: Case) -> None:
    """A method that ran several times has the result of its last run."""
    flow = case.recorded.oracle.flow
    if flow is None:
        return
    methods = case.recorded.log.state("r").methods
    results = {str(entry["method"]): entry["output"] for entry in flow._method_outputs}

    assert {row.name: row.result for row in methods} == results
    assert {row.status for row in methods} == {"completed"}
