"""Recorded events once more, for listeners: in order, paced as they came, without running anything.

Each event becomes an instance of the live class that has its ``type``, with the ids it had; a type no
class of this process has becomes a bare ``BaseEvent``. Nothing is imported, called or validated because a
file names it. Outputs come back as CrewAI's own classes; other objects as ``Recorded``, which has
their recorded attributes. ``crewai.events.event_bus.is_replaying()`` is true in the handlers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import crewai.events
import msgspec
from crewai.crews.crew_output import CrewOutput
from crewai.events.base_events import BaseEvent
from crewai.events.event_bus import crewai_event_bus as bus
from crewai.events.types.llm_events import LLMCallType
from crewai.lite_agent_output import LiteAgentOutput
from crewai.tasks.task_output import TaskOutput
from crewai.types.usage_metrics import UsageMetrics
from pydantic import BaseModel

from eventlog.logger import Logger
from eventlog.record import OWN_PREFIX, Event, is_step
from eventlog.references import class_name
from eventlog.values import plain

WAIT_S_MAX = 5.0
"""Nobody waits longer for the next event: a run may have rested for days."""
TREE_DEPTH_MAX = 200
"""What nests deeper stays as it is stored."""

_OUTPUTS: dict[str, type[BaseModel]] = {
    class_name(cls): cls for cls in (TaskOutput, CrewOutput, LiteAgentOutput, UsageMetrics)
}
_HEADER = (
    "event_id parent_event_id previous_event_id triggered_by_event_id started_event_id emission_sequence"
    " task_id task_name agent_id agent_role"
).split()

log = Logger(__name__)


class Recorded(SimpleNamespace):
    """What stands for an object that was live when the event was recorded: its recorded attributes."""


class Played(msgspec.Struct, kw_only=True):
    """What became of a replay."""

    events: int = 0
    """Events handed over."""
    unheard: int = 0
    """Of these, how many nobody listened to."""
    unknown_types: dict[str, int] = {}
    """Types without a class in this process, counted."""


def play_events(
    events: Iterable[Event],
    speed: float = 0,
    *,
    on_event: Callable[[Event], None] = lambda _event: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Played:
    """Hand events to the bus's listeners, ``speed`` times as fast as they were recorded (0: without waiting).

    Each event's handlers are done before the next event comes. Events of the library itself are
    left out: no listener ever saw them; so is what a resumed kickoff only said again. ``on_event``
    is told of each event before its handlers.
    """
    classes, result, before = event_classes(), Played(), None
    for event in events:
        if event.type.startswith(OWN_PREFIX) or not is_step(event):
            continue
        if before is not None and speed > 0:
            sleep(min(max(event.at_ns - before, 0) / 1e9 / speed, WAIT_S_MAX))
        before = event.at_ns
        on_event(event)
        if event.type not in classes:
            result.unknown_types[event.type] = result.unknown_types.get(event.type, 0) + 1
        result.unheard += not _dispatch(event, live_event(event, classes))
        result.events += 1
    return result


def live_event(event: Event, classes: dict[str, type[BaseEvent]] | None = None) -> BaseEvent:
    """Return an event as an instance of its live class; fields the class does not have are attributes too."""
    cls = (classes if classes is not None else event_classes()).get(event.type, BaseEvent)
    fields: dict[str, Any] = {str(name): _revived(value) for name, value in event.payload.items()}
    if isinstance(call_type := fields.get("call_type"), str):  # the one enumeration in CrewAI's events
        fields["call_type"] = next((member for member in LLMCallType if member.value == call_type), call_type)
    fields.update({name: getattr(event, name) for name in _HEADER})
    fields["type"] = event.type
    fields["timestamp"] = datetime.fromtimestamp(event.at_ns / 1e9, tz=timezone.utc)
    known: dict[str, Any] = {name: value for name, value in fields.items() if name in cls.model_fields}
    missing: dict[str, Any] = {name: None for name, field in cls.model_fields.items() if field.is_required()}
    made = cls.model_construct(None, **{**missing, **known})
    vars(made).update({name: value for name, value in fields.items() if name not in cls.model_fields})
    return made


def event_classes() -> dict[str, type[BaseEvent]]:
    """Return type → class of every event class this process has; CrewAI's own come first."""
    for name in crewai.events.__all__:  # they are loaded when they are asked for
        try:
            getattr(crewai.events, name)
        except Exception as error:  # an event of an extra that is not installed
            log.debug("event_class_unavailable", name=name, error=repr(error))
    found: dict[str, type[BaseEvent]] = {}
    for cls in sorted(_subclasses(BaseEvent), key=lambda c: not c.__module__.startswith("crewai.")):
        event_type = cls.model_fields["type"].default
        if isinstance(event_type, str):
            found.setdefault(event_type, cls)
    return found


@contextmanager
def without_other_listeners() -> Generator[None]:
    """Take every handler off the bus for a while: only those registered inside hear what is played.

    CrewAI's own would print, trace and report recorded events as if they happened now.
    """
    with bus.scoped_handlers():
        try:
            yield
        finally:
            bus.flush()


def _dispatch(event: Event, live: BaseEvent) -> bool:
    """Hand one event over and wait for its handlers; false when there are none."""
    future = bus.replay(Recorded(run=event.run, branch=event.branch, path=event.path, seq=event.seq), live)
    if future is None:
        return False
    try:
        future.result()
    except Exception as error:  # the bus reports what handlers raise; this is a handler graph's error
        log.warning("listener_failed", type=event.type, error=repr(error))
    return True


def _subclasses(cls: type[BaseEvent]) -> list[type[BaseEvent]]:
    """Return all classes below ``cls``, in the order they were made."""
    found: dict[type[BaseEvent], None] = {}
    waiting = [cls]
    while waiting:
        for sub in waiting.pop(0).__subclasses__():
            if sub not in found:
                found[sub] = None
                waiting.append(sub)
    return list(found)


def _revived(tree: Any, depth: int = 0) -> Any:
    """Return a stored value as listeners know it."""
    if depth > TREE_DEPTH_MAX:
        return tree
    if isinstance(tree, list):
        return [_revived(value, depth + 1) for value in tree]
    if not isinstance(tree, dict):
        return tree
    tag = next(iter(tree), "")
    if tag in ("$model", "$dataclass") and isinstance(tree.get("fields"), dict):
        return _object(tree[tag], {str(k): _revived(v, depth + 1) for k, v in tree["fields"].items()})
    if tag == "$ref":
        return Recorded(**{str(k).lstrip("$"): v for k, v in tree.items()})
    if isinstance(tag, str) and tag.startswith("$"):
        return _time(tree) if tag == "$datetime" else plain(tree)
    return {name: _revived(value, depth + 1) for name, value in tree.items()}


def _object(cls: Any, fields: dict[str, Any]) -> Any:
    """Return an output of CrewAI's, made without any validation; anything else as ``Recorded``."""
    known = _OUTPUTS.get(cls) if isinstance(cls, str) else None
    if known is None:
        return Recorded(**fields)
    return known.model_construct(**{name: value for name, value in fields.items() if name in known.model_fields})


def _time(tree: dict[str, Any]) -> Any:
    """Return a time; the text of one that cannot be read."""
    text = tree["$datetime"]
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except (AttributeError, ValueError):
        return text
