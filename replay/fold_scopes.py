"""Folds which scopes are at work. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from eventlog.record import StoredEvent
from eventlog.replay.event_types import ENDS
from eventlog.replay.fold_executions import close_below
from eventlog.replay.folding import Folding, Step, as_text, reading
from eventlog.replay.path import is_internal
from eventlog.replay.state import OpenScope


class ScopeNames(msgspec.Struct):
    """What the starting events call the thing they start."""

    crew_name: Any = None
    flow_name: Any = None
    method_name: Any = None
    tool_name: Any = None
    model: Any = None
    server_name: Any = None
    guardrail_name: Any = None
    agent: Any = None


def _open(work: Folding, event: StoredEvent, payload: ScopeNames) -> None:
    """Something starts; CrewAI's internal flows are left out."""
    if not is_internal(event.path):
        name = _name(event, payload)
        scope = OpenScope(type=event.type, name=name, event_id=event.event_id, seq=event.seq, path=event.path)
        work.open.open(scope)


def _name(event: StoredEvent, payload: ScopeNames) -> str:
    """Return the most particular name there is."""
    own = (payload.method_name, payload.tool_name, payload.model, payload.server_name, payload.guardrail_name)
    named = next((text for value in (*own, payload.crew_name, payload.flow_name) if (text := as_text(value))), "")
    role = as_text(payload.agent.get("role")) if isinstance(payload.agent, dict) else ""
    task = event.task_name if event.type == "task_started" else None
    return named or task or role or event.agent_role or ""


def close_scope(work: Folding, event: StoredEvent) -> None:
    """Something ends: close what it started, or failing that what stands at its path, and all below."""
    scope = work.open.get(event.started_event_id)
    if scope is None or scope.type != ENDS[event.type]:
        scope = work.open.at(event.path, ENDS[event.type])
    if scope is not None:
        close_below(work, scope.path)
        work.open.close(scope.event_id)


open_scope: Step = reading(ScopeNames, _open)
"""Adds the scope that a starting event opens."""
