"""Folds the starts and ends of kickoffs. Pure."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from eventlog.record import ExecutionKind, StoredEvent
from eventlog.replay.folding import Folding, Step, as_text, reading
from eventlog.replay.path import above, enclosing, execution_of, is_internal, kind_of
from eventlog.replay.state import ExecutionState, ExecutionStatus


class CrewStarted(msgspec.Struct):
    """Of ``crew_kickoff_started``."""

    crew_name: Any = None
    inputs: Any = None


class FlowStarted(msgspec.Struct):
    """Of ``flow_started``."""

    flow_name: Any = None
    inputs: Any = None


class AgentInfo(msgspec.Struct):
    """What a standalone agent says about itself."""

    role: Any = None


class AgentStarted(msgspec.Struct):
    """Of ``lite_agent_execution_started``."""

    agent_info: AgentInfo = msgspec.field(default_factory=AgentInfo)
    messages: Any = None


class Ended(msgspec.Struct):
    """Of every event that ends a kickoff."""

    flow_name: Any = None
    error: Any = None


def start_execution(work: Folding, event: StoredEvent, name: str, inputs: Any) -> None:
    """Open or reopen the execution at the event's path; a path that names none changes nothing."""
    path = event.path
    if not path or execution_of(path) != path:
        return
    row = work.executions.get(path)
    if row is None:
        kind = cast("ExecutionKind", kind_of(path))
        row = ExecutionState(path=path, kind=kind, parent=execution_of(above(path)) or None)
        work.state.executions.append(row)
        work.executions[path] = row
    else:
        _forget_dead_process(work, path)
    row.name, row.inputs, row.status, row.error = name, inputs, "running", None
    row.started_seq, row.ended_seq = event.seq, None
    if row.parent is None:
        become_root(work, row)


def end_execution(work: Folding, event: StoredEvent, path: str, status: ExecutionStatus, error: Any = None) -> None:
    """Close an execution and every scope below it; one that never started changes nothing."""
    row = work.executions.get(path)
    if row is None:
        return
    row.status, row.error, row.ended_seq = status, error, event.seq
    close_below(work, path)
    if path == work.state.root:
        work.state.status, work.state.error = status, error


def close_below(work: Folding, path: str) -> None:
    """Close the scope at ``path`` and all below; kickoffs and methods that did not end there are interrupted."""
    for scope in work.open.close_under(path):
        row: Any = work.executions.get(scope.path)
        if scope.type == "method_execution_started":
            row = work.methods.get((enclosing(scope.path, "flow"), scope.name))
        if row is not None and row.status == "running":
            row.status = "interrupted"


def become_root(work: Folding, row: ExecutionState) -> None:
    """Let the run be what its newest root execution is."""
    state = work.state
    state.root, state.status, state.error = row.path, "running", None
    state.kind, state.name, state.inputs = row.kind, row.name, row.inputs


def _forget_dead_process(work: Folding, path: str) -> None:
    """Close what an earlier process left open in an execution that starts again."""
    close_below(work, path)
    for task in work.tasks.of(path):
        if task.status == "running":
            task.status = "pending"


def _crew_started(work: Folding, event: StoredEvent, payload: CrewStarted) -> None:
    """A crew's kickoff begins."""
    start_execution(work, event, as_text(payload.crew_name), payload.inputs)


def _flow_started(work: Folding, event: StoredEvent, payload: FlowStarted) -> None:
    """A flow's kickoff begins; the state shown is that of the outermost flow."""
    known = event.path in work.executions
    start_execution(work, event, as_text(payload.flow_name), payload.inputs)
    outermost = enclosing(event.path, "flow") == event.path and not enclosing(above(event.path), "flow")
    if outermost and not (known and work.state.flow == event.path):
        work.state.flow, work.state.flow_state = event.path, None


def _agent_started(work: Folding, event: StoredEvent, payload: AgentStarted) -> None:
    """A standalone agent's kickoff begins."""
    start_execution(work, event, as_text(payload.agent_info.role) or event.agent_role or "", payload.messages)


def ended_execution(work: Folding, event: StoredEvent, kind: ExecutionKind, flow_name: Any) -> ExecutionState | None:
    """Return the execution an ending event closes: the innermost of its kind; ``None`` for CrewAI's internal flows.

    The path of the event may lie deeper than the execution: after an abort CrewAI pairs its
    ending events with the wrong start. Then the flow's name tells.
    """
    row = work.executions.get(enclosing(event.path, kind))
    if row is None or is_internal(event.path):
        return None
    return row if event.path == row.path or as_text(flow_name) in ("", row.name) else None


def _ends(kind: ExecutionKind, status: ExecutionStatus) -> Step:
    """Return the step that ends the innermost execution of a kind."""

    def end(work: Folding, event: StoredEvent, payload: Ended) -> None:
        row = ended_execution(work, event, kind, payload.flow_name)
        if row is not None:
            end_execution(work, event, row.path, status, payload.error)

    return reading(Ended, end)


def _aborted(work: Folding, event: StoredEvent, payload: Ended) -> None:
    """A kickoff was left by an exception that CrewAI reports nowhere (KeyboardInterrupt, SystemExit…)."""
    end_execution(work, event, execution_of(event.path), "interrupted", payload.error)


STEPS: dict[str, Step] = {
    "crew_kickoff_started": reading(CrewStarted, _crew_started),
    "crew_kickoff_completed": _ends("crew", "completed"),
    "crew_kickoff_failed": _ends("crew", "failed"),
    "flow_started": reading(FlowStarted, _flow_started),
    "flow_finished": _ends("flow", "completed"),
    "flow_failed": _ends("flow", "failed"),
    "flow_paused": _ends("flow", "paused"),
    "lite_agent_execution_started": reading(AgentStarted, _agent_started),
    "lite_agent_execution_completed": _ends("agent", "completed"),
    "lite_agent_execution_error": _ends("agent", "failed"),
    "eventlog.execution_aborted": reading(Ended, _aborted),
}
