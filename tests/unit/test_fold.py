"""What a history means: each case is something CrewAI really emits, or a record of ours.

Long, as a list of small cases of one function.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from eventlog.errors import EventFormatError
from eventlog.replay.fold import apply_event, begin_fold, fold_events
from eventlog.replay.state import OpenScope, RunState, iso_utc
from eventlog.replay.tokens import COUNT_MAX, Tokens, read_usage
from tests.unit.histories import CREW, FLOW, History, finished_crew, task_output, task_ref

STATE = (
    "run branch cursor status kind name inputs executions tasks methods flow_state llm tools open error "
    "started_at updated_at event_count unknown_types"
)
TASK = "execution key name description agent status output started_seq completed_seq attempts"
LLM = "calls failed prompt_tokens completion_tokens total_tokens by_model"


def test_the_json_of_a_state_has_the_promised_fields() -> None:
    """Programs read them by name."""
    tree = msgspec.json.decode(msgspec.json.encode(finished_crew().state()))

    assert set(tree) >= set(STATE.split())
    assert set(tree["executions"][0]) >= {"path", "parent", "kind", "name", "status", "inputs"}
    assert set(tree["tasks"][0]) >= set(TASK.split())
    assert set(tree["llm"]) == set(LLM.split())


def test_a_finished_crew_shows_its_tasks_and_their_cost() -> None:
    """The plain case: every fact is where its reader looks for it."""
    state = finished_crew().state()

    assert (state.status, state.kind, state.name, state.inputs) == ("completed", "crew", "c", {"topic": "x"})
    assert [(t.key, t.status, t.output, t.attempts) for t in state.tasks] == [
        ("a", "completed", "out a", 1),
        ("b", "completed", "out b", 1),
    ]
    assert (state.llm.calls, state.llm.total_tokens, state.llm.by_model["m"].prompt_tokens) == (2, 30, 20)
    assert (state.open, state.error, state.unknown_types, state.malformed) == ([], None, {}, 0)
    assert (state.cursor, state.event_count) == (15, 15)
    assert (state.started_at, state.updated_at) == ("1970-01-01T00:00:01.000000Z", "1970-01-01T00:00:15.000000Z")


def test_what_a_task_really_was_replaces_its_template() -> None:
    """A definition is written before CrewAI fills in the inputs; afterwards the filled-in texts are shown."""
    task = finished_crew().state().tasks[0]

    assert (task.name, task.description, task.agent) == ("name-a", "did", "Writer")


def test_a_definition_lists_tasks_that_have_not_started() -> None:
    """A person sees what is still to come, in the crew's order."""
    history = History()
    history.add("crew_kickoff_started", CREW)
    history.define(("t1", "a"), ("t2", "a"), ("t3", "b"))
    history.run_task("t2", "a")

    assert [(t.id, t.status) for t in history.state().tasks] == [
        ("t1", "pending"),
        ("t2", "completed"),
        ("t3", "pending"),
    ]


def test_tasks_are_recognised_after_a_restart_by_key_and_occurrence() -> None:
    """Ids are new in every process; a second row for the same task would be wrong."""
    history = History()
    history.add("crew_kickoff_started", CREW)
    history.define(("t1", "a"), ("t2", "a"))
    history.run_task("t1", "a", "first")
    history.add("task_started", f"{CREW}/task[a]#1", task_id="t2", task=task_ref("t2", "a"))
    history.add("crew_kickoff_started", CREW)
    history.define(("n1", "a"), ("n2", "a"))

    assert [(t.id, t.status, t.output) for t in history.state().tasks] == [
        ("n1", "completed", "first"),
        ("n2", "pending", None),
    ]

    history.add("task_started", f"{CREW}/task[a]#1", task_id="n2", task=task_ref("n2", "a"))

    assert [t.status for t in history.state().tasks] == ["completed", "running"]


def test_a_task_without_definition_is_added_where_it_starts() -> None:
    """A bare task, or one that a hierarchical crew made up."""
    history = History()
    history.add("crew_kickoff_started", CREW)
    history.run_task("t9", "z")

    assert [(t.execution, t.key, t.status) for t in history.state().tasks] == [(CREW, "z", "completed")]


def test_a_restarted_task_is_the_same_row_even_without_definition() -> None:
    """Its path is the same in every process."""
    history = History()
    place = "/task:z#0"
    history.add("task_started", place, task_id="old", task=task_ref("old", "z"))
    history.add("task_started", place, task_id="new", task=task_ref("new", "z"))
    state = history.state()

    assert [(t.id, t.status) for t in state.tasks] == [("new", "running")]
    assert len(state.executions) == len(state.open) == 1


def test_every_agent_execution_of_a_task_is_an_attempt() -> None:
    """A guardrail's retry counts, a coworker's part does not."""
    history = History()
    history.add("crew_kickoff_started", CREW)
    place = f"{CREW}/task[a]#0"
    history.add("task_started", place, task_id="t1", task=task_ref("t1", "a"))
    for n in range(2):
        history.add("agent_execution_started", f"{place}/agent_execution#{n}", task=task_ref("t1", "a"))
    inner = f"{place}/agent_execution#1/internal[AgentExecutor]#0/tool[delegate:0]#0/agent_execution#0"
    history.add("agent_execution_started", inner, task=task_ref("other", "o"))

    assert history.state().tasks[0].attempts == 2


def test_interleaved_tasks_do_not_mix() -> None:
    """Async tasks run at once: each event goes to the task it names."""
    history = History()
    history.add("crew_kickoff_started", CREW)
    starts = {
        key: history.add("task_started", f"{CREW}/task[{key}]#0", task_id=key, task=task_ref(key, key)) for key in "ab"
    }
    for key in "ba":
        event = starts[key]
        history.add("task_completed", event.path, closes=event.event_id, task_id=key, output=task_output(f"out {key}"))

    assert [(t.key, t.output) for t in history.state().tasks] == [("a", "out a"), ("b", "out b")]


def test_a_skipped_conditional_task_is_skipped_not_pending() -> None:
    """CrewAI says nothing about it; our own record does."""
    history = History()
    history.add("crew_kickoff_started", CREW)
    history.define(("t1", "a"), ("t2", "b"))
    history.add("eventlog.task_skipped", CREW, task_id="t2", key="b")

    assert [t.status for t in history.state().tasks] == ["pending", "skipped"]


def test_an_output_kept_elsewhere_stays_a_reference() -> None:
    """The fold reads no contents: the state is small and pure."""
    history = History()
    history.add("crew_kickoff_started", CREW)
    history.run_task("t1", "a", {"$content": "ab12"})

    assert history.state().tasks[0].output == {"$content": "ab12"}


def test_an_abort_fails_the_right_task_although_crewai_names_another_scope() -> None:
    """After HookAborted each ending event points one scope too deep."""
    history = History()
    history.add("crew_kickoff_started", CREW)
    start = history.add("task_started", f"{CREW}/task[a]#0", task_id="t1", task=task_ref("t1", "a"))
    worker = history.add("agent_execution_started", f"{start.path}/agent_execution#0", task=task_ref("t1", "a"))
    history.add("task_failed", worker.path, closes=worker.event_id, task_id="t1", error="stop")
    history.add("crew_kickoff_failed", start.path, closes=start.event_id, crew_name="crew", error="stop")
    state = history.state()

    assert (state.status, state.error, state.open) == ("failed", "stop", [])
    assert [(t.status, t.error) for t in state.tasks] == [("failed", "stop")]


def test_an_abort_inside_a_method_still_ends_the_method_and_the_flow() -> None:
    """The crew's scope leaks, so the method's end names the crew and the flow's end names the method."""
    history = History()
    history.add("flow_started", FLOW, flow_name="Audit")
    method = history.add("method_execution_started", f"{FLOW}/method[one]#0", method_name="one", state={"x": 1})
    crew = history.add("crew_kickoff_started", f"{method.path}/crew:k#0")
    history.add("method_execution_finished", crew.path, closes=crew.event_id, method_name="one", state={"x": 2})

    assert [scope.type for scope in history.state().open] == ["flow_started"]

    history.add("flow_finished", method.path, closes=method.event_id, flow_name="Audit", state={"x": 3})
    state = history.state()

    assert (state.status, state.flow_state, state.open) == ("completed", {"x": 3}, [])
    assert [e.status for e in state.executions] == ["completed", "interrupted"]


def test_a_failure_the_parent_survives_does_not_fail_the_run() -> None:
    """A flow may catch what its crew raises."""
    history = History()
    flow = history.add("flow_started", FLOW, flow_name="Audit")
    crew = history.add("crew_kickoff_started", f"{FLOW}/method[one]#0/crew:k#0")
    history.add("crew_kickoff_failed", crew.path, closes=crew.event_id, error="down")
    history.add("flow_finished", FLOW, closes=flow.event_id, flow_name="Audit", state={})
    state = history.state()

    assert (state.status, state.error) == ("completed", None)
    assert [(e.path, e.parent, e.status) for e in state.executions] == [
        (FLOW, None, "completed"),
        (crew.path, FLOW, "failed"),
    ]


def test_the_last_root_execution_speaks_for_the_run() -> None:
    """A run may hold several kickoffs; an old failure is not the run's any more."""
    history = History()
    history.add("crew_kickoff_started", CREW, crew_name="first")
    history.add("crew_kickoff_failed", CREW, error="down")

    assert (history.state().status, history.state().error) == ("failed", "down")

    history.add("lite_agent_execution_started", "/agent:k#0", agent_info={"role": "Poet"}, messages="write")
    state = history.state()

    assert (state.status, state.kind, state.name, state.inputs, state.error) == (
        "running",
        "agent",
        "Poet",
        "write",
        None,
    )


def test_a_bare_task_is_an_execution_and_a_task() -> None:
    """``Task.execute_sync`` outside a crew."""
    history = History()
    start = history.add("task_started", "/task:z#0", task_id="t", task_name="sing", task=task_ref("t", "z"))
    history.add("task_completed", start.path, closes=start.event_id, task_id="t", output=task_output("la"))
    state = history.state()

    assert (state.status, state.kind, state.name) == ("completed", "task", "sing")
    assert [(t.execution, t.output) for t in state.tasks] == [("/task:z#0", "la")]


def test_an_aborted_execution_is_interrupted_and_can_start_again() -> None:
    """CrewAI reports no KeyboardInterrupt; our record does, and a later process goes on."""
    history = History()
    history.add("crew_kickoff_started", CREW, crew_name="c")
    history.add("task_started", f"{CREW}/task[a]#0", task_id="t1", task=task_ref("t1", "a"))
    history.add("eventlog.execution_aborted", CREW, error={"$error": "builtins:KeyboardInterrupt", "msg": ""})
    state = history.state()

    assert (state.status, state.executions[0].status, state.open) == ("interrupted", "interrupted", [])
    assert state.error == {"$error": "builtins:KeyboardInterrupt", "msg": ""}

    history.add("crew_kickoff_started", CREW, crew_name="c")
    state = history.state()

    assert (state.status, state.error, len(state.executions), state.tasks[0].status) == ("running", None, 1, "pending")


def test_what_a_dead_process_left_open_closes_when_its_execution_starts_again() -> None:
    """Otherwise scopes of dead processes would stay open for ever."""
    history = History()
    history.add("flow_started", FLOW, flow_name="Audit")
    history.add("method_execution_started", f"{FLOW}/method[one]#0", method_name="one", state={})
    history.add("crew_kickoff_started", f"{FLOW}/method[one]#0/crew:k#0")
    history.add("flow_started", FLOW, flow_name="Audit")
    state = history.state()

    assert [scope.seq for scope in state.open] == [4]
    assert [e.status for e in state.executions] == ["running", "interrupted"]
    assert state.methods[0].status == "interrupted"


def test_internal_flows_are_neither_executions_nor_open() -> None:
    """CrewAI runs each agent as a flow of its own; users did not write it."""
    history = History()
    history.add("crew_kickoff_started", CREW)
    inner = f"{CREW}/task[a]#0/agent_execution#0/internal[AgentExecutor]#0"
    history.add("flow_started", inner, flow_name="AgentExecutor")
    history.add("method_execution_started", f"{inner}/method[think]#0", method_name="think", state={"hidden": 1})
    history.add("flow_finished", inner, flow_name="AgentExecutor", state={"hidden": 2})
    state = history.state()

    assert [e.path for e in state.executions] == [CREW]
    assert (state.methods, state.flow_state) == ([], None)
    assert "flow_started" not in [scope.type for scope in state.open]


def test_methods_keep_their_newest_result_and_how_often_they_ran() -> None:
    """Flows may loop."""
    history = History()
    history.add("flow_started", FLOW, flow_name="Audit")
    for n in range(2):
        place = f"{FLOW}/method[one]#{n}"
        start = history.add("method_execution_started", place, method_name="one", state={"n": n})
        history.add(
            "method_execution_finished", place, closes=start.event_id, method_name="one", result=n, state={"n": n + 1}
        )
    state = history.state()

    assert [(m.execution, m.name, m.status, m.result, m.runs) for m in state.methods] == [
        (FLOW, "one", "completed", 1, 2)
    ]
    assert state.flow_state == {"n": 2}


def test_a_failed_method_keeps_its_error_and_fails_the_flow() -> None:
    """The error stays what it was, tags and all."""
    error = {"$error": "builtins:RuntimeError", "msg": "bad"}
    history = History()
    history.add("flow_started", FLOW, flow_name="Audit")
    history.add("method_execution_started", f"{FLOW}/method[one]#0", method_name="one", state={})
    history.add("method_execution_failed", f"{FLOW}/method[one]#0", method_name="one", error=error)
    history.add("flow_failed", FLOW, flow_name="Audit", error=error)
    state = history.state()

    assert (state.methods[0].status, state.methods[0].error) == ("failed", error)
    assert (state.status, state.error) == ("failed", error)


def test_a_flow_that_waits_for_a_human_is_paused_until_it_starts_again() -> None:
    """The resumed flow ends a method; the count of its runs tells the truth."""
    history = History()
    history.add("flow_started", FLOW, flow_name="Audit")
    history.add("method_execution_started", f"{FLOW}/method[ask]#0", method_name="ask", state={})
    history.add("method_execution_paused", f"{FLOW}/method[ask]#0", method_name="ask", state={"a": 1})
    history.add("flow_paused", FLOW, flow_name="Audit", method_name="ask", state={"a": 1})
    state = history.state()

    assert (state.status, state.methods[0].status, state.flow_state, state.open) == ("paused", "paused", {"a": 1}, [])

    history.add("flow_started", FLOW, flow_name="Audit")
    history.add("method_execution_finished", FLOW, method_name="ask", result="ok", state={"a": 2})
    state = history.state()

    assert (state.status, state.methods[0].status, state.methods[0].runs) == ("running", "completed", 1)
    assert state.flow_state == {"a": 2}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"a": 1, "b": 2}, {"a": 9, "c": 3}),
        (
            {"$model": "m:S", "fields": {"a": 1, "b": 2}},
            {"$model": "m:S", "fields": {"a": 9, "c": 3}},
        ),
        ({"$content": "ff"}, {"$content": "ff"}),
        ({"$map": [[1, 2]]}, {"$map": [[1, 2]]}),
    ],
    ids=["mapping", "model", "kept elsewhere", "odd keys"],
)
def test_a_patch_changes_fields_of_the_state_between_method_boundaries(before: Any, after: Any) -> None:
    """What has no fields waits for the next boundary, which carries the whole state."""
    history = History()
    history.add("flow_started", FLOW, flow_name="Audit")
    history.add("method_execution_started", f"{FLOW}/method[one]#0", method_name="one", state=before)
    history.add("eventlog.flow_state", f"{FLOW}/method[one]#0", set={"a": 9, "c": 3}, unset=["b"])

    assert history.state().flow_state == after


def test_the_state_shown_is_that_of_the_outermost_flow() -> None:
    """A flow inside a flow has a state of its own, and patches of its own."""
    history = History()
    history.add("flow_started", FLOW, flow_name="Audit")
    history.add("method_execution_started", f"{FLOW}/method[one]#0", method_name="one", state={"outer": 1})
    inner = f"{FLOW}/method[one]#0/flow:Sub#0"
    history.add("flow_started", inner, flow_name="Sub")
    history.add("method_execution_started", f"{inner}/method[x]#0", method_name="x", state={"inner": 1})
    history.add("eventlog.flow_state", inner, set={"inner": 2}, unset=[])

    assert history.state().flow_state == {"outer": 1}


def test_models_and_tools_are_counted() -> None:
    """A call that fails is counted apart; a tool that reports a failure failed."""
    history = History()
    history.add("llm_call_completed", model="m", usage={"input_tokens": 7, "output_tokens": 3})
    history.add("llm_call_completed", model="n")
    history.add("llm_call_failed", model="m", error="down")
    history.add("tool_usage_finished", tool_name="search", output="x")
    history.add("tool_usage_finished", tool_name="search", output="x", failure={"reason": "empty"})
    history.add("tool_usage_error", tool_name="search", error="down")
    state = history.state()

    assert (state.llm.calls, state.llm.failed, state.llm.total_tokens) == (2, 1, 10)
    assert {name: use.calls for name, use in state.llm.by_model.items()} == {"m": 1, "n": 1}
    assert [(t.name, t.calls, t.errors) for t in state.tools] == [("search", 3, 2)]


def test_an_exchange_counts_only_what_crewai_did_not_report() -> None:
    """A custom LLM may emit no event at all; one that does is not counted twice."""
    history = History()
    history.add("eventlog.llm_exchange", model="m", completed="e1", usage={"prompt_tokens": 99})
    history.add("eventlog.llm_exchange", model="m", usage={"prompt_tokens": 1})
    history.add("eventlog.llm_exchange", model="m", error={"$error": "x:E"})
    history.add("eventlog.llm_exchange", model="m", error={"$error": "x:E"}, failed="e2")
    history.add("eventlog.tool_exchange", f"{CREW}/task[a]#0/tool[search:0]#0", tool="search")
    history.add("eventlog.tool_exchange", f"{CREW}/task[a]#0", tool="search", finished="e2")
    history.add("eventlog.tool_exchange", f"{CREW}/task[a]#0", tool="search")
    state = history.state()

    assert (state.llm.calls, state.llm.failed, state.llm.prompt_tokens) == (1, 1, 1)
    assert [(t.calls, t.errors) for t in state.tools] == [(1, 0)]


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 99}, (10, 5)),
        ({"prompt_token_count": 4, "candidates_token_count": 2}, (4, 2)),
        ({"input_tokens": 3, "output_tokens": 1}, (3, 1)),
        ({"input_tokens": 3, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 5}, (12, 0)),
        ({"prompt_tokens": 0, "input_tokens": 8}, (8, 0)),
        ({"prompt_tokens": "12", "completion_tokens": None}, (12, 0)),
        ({"prompt_tokens": -5, "completion_tokens": {"$int": "0xff"}}, (0, 0)),
        ({"prompt_tokens": 10**30}, (COUNT_MAX, 0)),
        (None, (0, 0)),
        ("many", (0, 0)),
    ],
)
def test_usage_is_read_as_crewai_reads_it(usage: Any, tokens: tuple[int, int]) -> None:
    """Providers have their own words; our sums must equal CrewAI's."""
    read = read_usage(usage)

    assert read == Tokens(*tokens)
    assert read.total == min(sum(tokens), COUNT_MAX)


def test_unknown_types_are_counted_and_the_users_own_apart() -> None:
    """A newer CrewAI's events are worth a warning, the user's are not."""
    history = History()
    for event_type in ("telepathy_started", "telepathy_started", "invoice.sent", "eventlog.new_thing"):
        history.add(event_type, x=1)
    state = history.state()

    assert state.unknown_types == {"telepathy_started": 2, "eventlog.new_thing": 1}
    assert (state.user_types, state.event_count) == ({"invoice.sent": 1}, 4)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{",
        b'"x"',
        b'{"task": 7}',
        b'{"output": "\xff\xff"}',
        b'{"output": ' + b"[" * 3000 + b"]" * 3000 + b"}",
    ],
    ids=["empty", "list", "cut off", "text", "wrong type", "not UTF-8", "deep"],
)
def test_a_malformed_payload_is_counted_and_its_header_still_counts(raw: bytes) -> None:
    """That the task completed is true whatever its output is."""
    history = History()
    history.add("crew_kickoff_started", CREW)
    start = history.add("task_started", f"{CREW}/task[a]#0", task_id="t1", task=task_ref("t1", "a"))
    history.add("task_completed", start.path, closes=start.event_id, task_id="t1", raw=raw or b" ")
    state = history.state()

    assert (state.malformed, state.tasks[0].status, state.tasks[0].output) == (1, "completed", None)
    assert msgspec.json.decode(msgspec.json.encode(state), type=RunState) == state


def test_brackets_inside_strings_do_not_count_as_depth() -> None:
    """A task may well write about brackets."""
    history = History()
    history.add("crew_kickoff_started", CREW)
    history.run_task("t1", "a", '["\\' * 300)

    assert (history.state().malformed, history.state().tasks[0].output) == (0, '["\\' * 300)


def test_a_capture_gap_is_shown() -> None:
    """Nothing is lost silently."""
    history = History()
    history.add("eventlog.capture_gap", dropped=12)

    assert [(gap.seq, gap.dropped) for gap in history.state().gaps] == [(1, 12)]


def test_closing_a_scope_closes_everything_below_it_and_nothing_beside() -> None:
    """An LLM call that nobody ended is over when its task is."""
    history = History()
    history.add("crew_kickoff_started", CREW, crew_name="c")
    start = history.add("task_started", f"{CREW}/task[a]#0", task_id="t1", task_name="write", task=task_ref("t1", "a"))
    history.add("llm_call_started", f"{start.path}/agent_execution#0/llm#0", model="m")
    beside = history.add("task_started", f"{CREW}/task[a]#01", task_id="t2", task=task_ref("t2", "b"))
    history.add("task_failed", start.path, closes=start.event_id, task_id="t1", error="x")
    opened = history.state().open

    assert [(scope.seq, scope.name) for scope in opened] == [(1, "c"), (beside.seq, "")]
    assert opened[0] == OpenScope(type="crew_kickoff_started", name="c", event_id="e1", seq=1, path=CREW)


def test_events_out_of_order_are_refused_and_change_nothing() -> None:
    """A state folded out of order would be wrong without a sign."""
    history = finished_crew()
    work = begin_fold(run="r", branch="main")
    apply_event(work, history.events[1])

    with pytest.raises(EventFormatError, match="seq 1 comes after seq 2"):
        apply_event(work, history.events[0])
    assert work.result() == fold_events(history.events[1:2], run="r", branch="main")


def test_a_snapshot_of_the_parent_becomes_a_state_of_the_fork() -> None:
    """A fork is read through its parent."""
    history = finished_crew()
    parent = fold_events(history.events[:5], run="r", branch="main")

    forked = fold_events(history.events[5:], parent, run="r", branch="what-if")

    assert (forked.branch, parent.branch, parent.cursor) == ("what-if", "main", 5)


def test_the_edits_of_a_fork_stand_where_the_recorded_values_stood() -> None:
    """A task is meant by its place; what used it has to run again, and its crew is unfinished."""
    history = finished_crew()
    outputs, reset = {f"{CREW}/task[a]#0": "edited"}, [f"{CREW}/task[b]#0", f"{CREW}/task[b]#7", "nonsense"]
    history.add("eventlog.fork_edited", CREW, execution=CREW, inputs={"topic": "y"}, outputs=outputs, reset=reset)
    state = history.state()

    assert state.inputs == state.executions[0].inputs == {"topic": "y"}
    assert [(t.status, t.output) for t in state.tasks] == [("completed", "edited"), ("pending", None)]
    assert (state.status, state.error, state.executions[0].status) == ("running", None, "running")


@pytest.mark.parametrize(
    ("at_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_768_471_200_123_456_789, "2026-01-15T10:00:00.123456Z"),
        (10**30, "9999-12-31T23:59:59.999999Z"),
        (-(10**30), "0001-01-01T00:00:00.000000Z"),
    ],
)
def test_times_are_iso_8601_whatever_the_clock_said(at_ns: int, text: str) -> None:
    """Even a time no calendar knows must not stop the fold."""
    assert iso_utc(at_ns) == text
