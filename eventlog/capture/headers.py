"""From a CrewAI event to the header and the fields of a stored one."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any

from eventlog.codec import AsContent
from eventlog.record import NewEvent
from eventlog.references import class_name

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MICROSECOND = timedelta(microseconds=1)
NS_MAX = 2**63 - 1
"""What SQLite can keep."""

HEADER_FIELDS = frozenset(
    "timestamp type event_id parent_event_id previous_event_id triggered_by_event_id started_event_id"
    " emission_sequence task_id task_name agent_id agent_role from_task from_agent".split()
)
"""Not repeated in the payload; ``from_task`` and ``from_agent`` are copied to the header by CrewAI."""
_COPIED = tuple(HEADER_FIELDS - {"from_task", "from_agent"})


def time_ns(moment: Any) -> int:
    """Return a datetime as nanoseconds since the epoch (a naive one is taken as local time).

    What is none, or lies before 1678 or after 2261, is now: no clock shows that.
    """
    if isinstance(moment, datetime):
        try:
            found = (moment.astimezone(timezone.utc) - EPOCH) // MICROSECOND * 1000
        except (OverflowError, ValueError, OSError):
            return time.time_ns()
        if abs(found) <= NS_MAX:
            return found
    return time.time_ns()


def payload_fields(event: Any) -> dict[str, Any]:
    """Return what goes into the payload: all fields that are set, extra ones too, except the header's."""
    fields = {k: v for k, v in event.__dict__.items() if v is not None and k not in HEADER_FIELDS}
    extra = getattr(event, "__pydantic_extra__", None)
    if extra:
        fields.update((k, v) for k, v in extra.items() if v is not None)
    if event.type == "llm_call_started":
        _shorten_request(fields)
    elif event.type == "llm_call_completed":
        fields["call_type"] = getattr(fields.get("call_type"), "value", fields.get("call_type"))
    return fields


def _shorten_request(fields: dict[str, Any]) -> None:
    """Keep of a model call's machinery only names; tool schemas, the same at every call, once."""
    if fields.get("tools"):
        fields["tools"] = AsContent(fields["tools"])
    if isinstance(fields.get("callbacks"), (list, tuple)):
        fields["callbacks"] = [type(c).__qualname__ for c in fields["callbacks"]]
    if isinstance(fields.get("available_functions"), dict):
        fields["available_functions"] = sorted(map(str, fields["available_functions"]))


def header_copy(event: Any) -> Any:
    """Return an event that keeps what its header says now; nothing else of it may be used, nor is kept alive."""
    copied = object.__new__(type(event))
    fields = event.__dict__
    object.__setattr__(copied, "__dict__", {name: fields[name] for name in _COPIED if name in fields})
    object.__setattr__(copied, "__pydantic_private__", event.__pydantic_private__)
    return copied


def sound(value: Any) -> str:
    """Return an id or type as text that can be stored; users may have put anything there."""
    text = str(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def text_or_none(value: Any) -> str | None:
    """Return a link as text."""
    return None if value is None else sound(value)


def pair(first: Any, second: Any, clean: Any) -> tuple[str, str] | None:
    """Return an id with its name, if there is an id."""
    return None if first is None else (clean(str(first)), clean(str(second)) if second else "")


def build(event: Any, encoded: Any, place: Any, clean: Any) -> NewEvent:
    """Return the event as it will be stored. ``clean`` takes secrets out of a text."""
    return NewEvent(
        type=sound(event.type),
        type_class=class_name(type(event)),
        event_id=sound(event.event_id),
        at_ns=time_ns(event.timestamp),
        payload=encoded.payload,
        contents=encoded.contents,
        flags=encoded.flags,
        run=place.home.run,
        branch=place.home.branch,
        attribution=place.home.attribution,
        parent_event_id=text_or_none(event.parent_event_id),
        previous_event_id=text_or_none(event.previous_event_id),
        triggered_by_event_id=text_or_none(event.triggered_by_event_id),
        started_event_id=text_or_none(event.started_event_id),
        emission_sequence=event.emission_sequence,
        task=pair(event.task_id, event.task_name, clean),
        agent=pair(event.agent_id, event.agent_role, clean),
        path=place.path,
        opens=place.opens,
        closes=place.closes,
        releases=place.closed_root,
    )
