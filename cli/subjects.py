"""What an event is about, in a few words. Pure: payloads are read as stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from eventlog.cli.text import one_line
from eventlog.record import OWN_PREFIX, WORK_TYPES, Event, StoredEvent
from eventlog.replay.tokens import read_usage
from eventlog.values import plain, ref_hash


class Said(msgspec.Struct):
    """The fields of payloads that name something."""

    crew_name: Any = None
    flow_name: Any = None
    method_name: Any = None
    tool_name: Any = None
    tool: Any = None
    agent: Any = None
    model: Any = None
    query: Any = None
    kind: Any = None
    name: Any = None
    usage: Any = None
    error: Any = None
    set: Any = None
    dropped: Any = None
    item: Any = None
    feature: Any = None
    step: Any = None
    summary: Any = None
    text: Any = None
    value: Any = None
    reason: Any = None


_decoder = msgspec.json.Decoder(Said)


def subject_of(event: StoredEvent | Event, fill: Callable[[str], Any], chars_max: int = 60) -> str:
    """Return what an event is about; ``fill`` returns the content behind a reference."""
    said = _read(event.payload)
    parts = [*_names(event, said), _cost(said)]
    if said.error is not None:
        parts.append(f"error: {_filled(said.error, fill)}")
    words = [one_line(part, chars_max) for part in parts]
    return " · ".join(word for word in words if word)


def _read(payload: bytes | dict[str, Any]) -> Said:
    """Return the fields of a payload; none of one that cannot be read."""
    try:
        return msgspec.convert(payload, Said) if isinstance(payload, dict) else _decoder.decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return Said()


def _names(event: StoredEvent | Event, said: Said) -> list[Any]:
    """Return what names the thing that the event is about."""
    kind = event.type
    if kind.startswith(OWN_PREFIX):
        return [*_own(kind, said), event.agent_role]
    role = event.agent_role or (said.agent.get("role") if isinstance(said.agent, dict) else None)
    if kind.startswith("crew_"):
        return [said.crew_name]
    if kind.startswith(("flow_", "method_", "human_feedback_")):
        return [".".join(str(n) for n in (said.flow_name, said.method_name) if isinstance(n, str))]
    if kind.startswith(("llm_call", "llm_stream", "llm_thinking")):
        return [said.model, role]
    if kind.startswith("tool_"):
        return [said.tool_name, role]
    if kind.startswith("task_"):
        return [event.task_name, role]
    return [role, said.query if isinstance(said.query, str) else said.name, event.task_name]


def _own(kind: str, said: Said) -> list[Any]:
    """Return what one of the library's own events names."""
    if kind.endswith("flow_state"):
        return [", ".join(map(str, said.set)) if isinstance(said.set, dict) else ""]
    if kind.endswith("capture_gap"):
        return [f"{said.dropped} events were lost here"]
    if kind in WORK_TYPES:
        return [said.item, said.feature, said.step, said.summary, said.text, said.value, said.reason]
    return [said.kind if kind.endswith("definition") else None, said.tool or said.tool_name or said.model or said.name]


def _cost(said: Said) -> str:
    """Return the tokens of a call."""
    tokens = read_usage(said.usage).total
    return f"{tokens} tokens" if tokens else ""


def _filled(value: Any, fill: Callable[[str], Any]) -> Any:
    """Return a value, or the content it refers to."""
    name = ref_hash(value)
    if name is None:
        return plain(value)
    try:
        return fill(name)
    except KeyError:
        return value
