"""Folds the methods and the state of flows. Pure. CrewAI's internal flows are not the user's: left out."""

from __future__ import annotations

from typing import Any

import msgspec

from eventlog.record import FLAG_REPLAYED, StoredEvent
from eventlog.replay.fold_executions import close_below, ended_execution
from eventlog.replay.folding import Folding, Step, as_text, reading
from eventlog.replay.path import above, enclosing, inside_internal, is_internal
from eventlog.replay.state import ExecutionStatus, MethodState


class MethodEvent(msgspec.Struct):
    """Of ``method_execution_*``."""

    method_name: Any = None
    state: Any = None
    result: Any = None
    error: Any = None


class FlowEnded(msgspec.Struct):
    """Of ``flow_finished`` and ``flow_paused``."""

    flow_name: Any = None
    state: Any = None


class Patch(msgspec.Struct):
    """Of ``eventlog.flow_state``."""

    set: dict[str, Any] = {}
    unset: list[str] = []


def _method_started(work: Folding, event: StoredEvent, payload: MethodEvent) -> None:
    """A method begins."""
    row = _method(work, event, payload)
    if row is not None:
        row.status, row.result, row.error = "running", None, None
        row.runs += not event.flags & FLAG_REPLAYED
        _observe(work, row.execution, payload.state)


def _method_ends(status: ExecutionStatus) -> Step:
    """Return the step that ends a method; a resumed flow ends methods that no process of its own started."""

    def end(work: Folding, event: StoredEvent, payload: MethodEvent) -> None:
        row = _method(work, event, payload)
        if row is not None:
            row.status, row.result, row.error = status, payload.result, payload.error
            _observe(work, row.execution, payload.state)
            _close_method(work, row)

    return reading(MethodEvent, end)


def _flow_ended(work: Folding, event: StoredEvent, payload: FlowEnded) -> None:
    """Keep the state a flow ends with."""
    row = ended_execution(work, event, "flow", payload.flow_name)
    if row is not None:
        _observe(work, row.path, payload.state)


def _patched(work: Folding, event: StoredEvent, payload: Patch) -> None:
    """Apply what changed inside a method."""
    state = work.state
    if not state.flow or enclosing(event.path, "flow") != state.flow:
        return
    if state.flow_state is None:
        state.flow_state = {}
    fields = _fields(state.flow_state)
    if fields is not None:
        fields.update(payload.set)
        for name in payload.unset:
            fields.pop(name, None)


def _close_method(work: Folding, row: MethodState) -> None:
    """Close a method's scope; after an abort inside it ``started_event_id`` names another one."""
    scope = work.open.newest(row.execution, "method_execution_started", row.name)
    if scope is not None:
        close_below(work, scope.path)


def _method(work: Folding, event: StoredEvent, payload: MethodEvent) -> MethodState | None:
    """Return the method's row, made when it is new; ``None`` inside an internal flow."""
    flow = enclosing(event.path, "flow")
    if not flow or is_internal(event.path) or inside_internal(event.path):
        return None
    name = as_text(payload.method_name)
    row = work.methods.get((flow, name))
    if row is None:
        row = MethodState(execution=flow, name=name)
        work.state.methods.append(row)
        work.methods[flow, name] = row
    return row


def _observe(work: Folding, flow: str, tree: Any) -> None:
    """Keep the state of an outermost flow."""
    if tree is not None and not enclosing(above(flow), "flow"):
        work.state.flow, work.state.flow_state = flow, tree


def _fields(tree: Any) -> dict[str, Any] | None:
    """Return the mapping a patch applies to; ``None`` for a state that is no plain mapping or model."""
    if not isinstance(tree, dict):
        return None
    if "$model" in tree or "$dataclass" in tree:
        tree = tree.get("fields")
    elif any(key.startswith("$") for key in tree):
        return None
    return tree if isinstance(tree, dict) else None


STEPS: dict[str, Step] = {
    "method_execution_started": reading(MethodEvent, _method_started),
    "method_execution_finished": _method_ends("completed"),
    "method_execution_failed": _method_ends("failed"),
    "method_execution_paused": _method_ends("paused"),
    "flow_finished": reading(FlowEnded, _flow_ended),
    "flow_paused": reading(FlowEnded, _flow_ended),
    "eventlog.flow_state": reading(Patch, _patched),
}
