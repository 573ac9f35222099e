"""What a stretch of events adds up to, by type, task, agent or model. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from eventlog.record import FLAG_REPLAYED, StoredEvent
from eventlog.replay.event_types import ENDS, STARTS
from eventlog.replay.tokens import read_usage

TIMED = {
    "type": frozenset(ENDS),
    "task": frozenset({"task_completed", "task_failed"}),
    "agent": frozenset({"agent_execution_completed", "agent_execution_error", "lite_agent_execution_completed"}),
    "model": frozenset({"llm_call_completed", "llm_call_failed"}),
}
"""Grouping → the ends whose scopes count as its time."""


class Sum(msgspec.Struct):
    """One row of the statistics."""

    name: str
    events: int = 0
    payload_bytes: int = 0
    """Of the payloads as stored; large values are counted with the contents."""
    llm_calls: int = 0
    tokens: int = 0
    busy_ns: int = 0
    """Nanoseconds between the start and the end of what ended; overlapping scopes add up."""


class _Facts(msgspec.Struct):
    """What is read of a payload."""

    model: Any = None
    usage: Any = None
    completed: Any = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Facts)


def tally(events: Iterable[StoredEvent], by: str) -> list[Sum]:
    """Return the sums of each group, in the order they first appeared; what was only said again does not count."""
    sums: dict[str, Sum] = {}
    started: dict[str, int] = {}
    for event in events:
        if event.type in STARTS:
            started[event.event_id] = event.at_ns
        start = started.pop(event.started_event_id, None) if event.started_event_id and event.type in ENDS else None
        facts = _read(event)
        name = _group(event, facts, by)
        if name is None or event.flags & FLAG_REPLAYED:
            continue
        row = sums.setdefault(name, Sum(name))
        row.events += 1
        row.payload_bytes += len(event.payload)
        if start is not None and event.type in TIMED[by]:
            row.busy_ns += max(0, event.at_ns - start)
        if _is_call(event, facts):
            row.llm_calls += 1
            row.tokens += read_usage(facts.usage).total
    return list(sums.values())


def total(sums: Iterable[Sum]) -> Sum:
    """Return the sum of all rows; times of different scopes do not add up."""
    whole = Sum("total")
    for row in sums:
        whole.events += row.events
        whole.payload_bytes += row.payload_bytes
        whole.llm_calls += row.llm_calls
        whole.tokens += row.tokens
    return whole


def _read(event: StoredEvent) -> _Facts:
    """Return what a payload says of a model; only calls of models do."""
    if not event.type.startswith(("llm_", "eventlog.llm", "eventlog.token")):
        return _Facts()
    try:
        return _decoder.decode(event.payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return _Facts()


def _group(event: StoredEvent, facts: _Facts, by: str) -> str | None:
    """Return the group of an event; ``None`` when it has none."""
    if by == "type":
        return event.type
    if by == "task":
        return event.task_name
    if by == "agent":
        return event.agent_role
    return facts.model if isinstance(facts.model, str) else None


def _is_call(event: StoredEvent, facts: _Facts) -> bool:
    """Whether an event stands for an answered call; an exchange does only where CrewAI emitted nothing."""
    silent = facts.completed is None and facts.error is None
    return event.type == "llm_call_completed" or (event.type == "eventlog.llm_exchange" and silent)
