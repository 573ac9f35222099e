"""The classes a live object declares: those of its outputs, its state and its methods' results."""

from __future__ import annotations

import enum
import inspect
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from eventlog.references import class_name, kind_of

DEPTH_MAX = 12
OUTPUTS = ("output_pydantic", "output_json", "response_model")
"""Attributes of a task that name a class."""


def declared_classes(entity: Any, given: Iterable[Any] = ()) -> dict[str, type]:
    """Return ``module:Qualname`` → class for everything ``entity`` declares, and CrewAI's own results."""
    found: dict[str, type] = {}
    for hint in [*_own_results(), *_hints_of(entity), *given]:
        _collect(hint, found, 0)
    return found


def _own_results() -> list[type]:
    """Return what CrewAI's kickoffs and memories return and methods of flows hand on."""
    from crewai.crews.crew_output import CrewOutput  # noqa: PLC0415 - CrewAI is loaded by whoever resumes
    from crewai.flow.human_feedback import HumanFeedbackResult  # noqa: PLC0415
    from crewai.lite_agent_output import LiteAgentOutput  # noqa: PLC0415
    from crewai.memory.types import MemoryMatch, MemoryRecord  # noqa: PLC0415
    from crewai.tasks.task_output import TaskOutput  # noqa: PLC0415

    return [CrewOutput, TaskOutput, LiteAgentOutput, HumanFeedbackResult, MemoryMatch, MemoryRecord]


def _hints_of(entity: Any) -> Iterator[Any]:
    """Yield every annotation and class that a crew, flow, agent, task or tool names."""
    kind = kind_of(entity)
    if kind == "crew":
        for part in [*getattr(entity, "tasks", ()), *getattr(entity, "agents", ())]:
            yield from _hints_of(part)
    elif kind == "task":
        yield from (getattr(entity, name, None) for name in OUTPUTS)
        yield from (hint for tool in getattr(entity, "tools", None) or () for hint in _hints_of(tool))
        yield from _hints_of(getattr(entity, "agent", None))
    elif kind == "agent":
        yield from (hint for tool in getattr(entity, "tools", None) or () for hint in _hints_of(tool))
    elif kind == "tool":
        for function in (getattr(entity, "func", None), getattr(entity, "_run", None)):
            yield result_hint(function)
    elif kind == "flow":
        yield type(getattr(entity, "state", None))
        for name in getattr(entity, "_methods", None) or ():
            yield result_hint(getattr(type(entity), str(name), None))


def result_hint(function: Any) -> Any:
    """Return the annotation of a function's result."""
    if function is None:
        return None
    try:
        return typing.get_type_hints(inspect.unwrap(getattr(function, "_meth", function))).get("return")
    except Exception:  # names that cannot be resolved here
        return None


def _collect(hint: Any, found: dict[str, type], depth: int) -> None:
    """Add the classes in an annotation, and those of their fields."""
    if depth > DEPTH_MAX or hint is None:
        return
    for inner in typing.get_args(hint):
        _collect(inner, found, depth + 1)
    if not inspect.isclass(hint) or class_name(hint) in found:
        return
    if issubclass(hint, (BaseModel, enum.Enum)) or hasattr(hint, "__dataclass_fields__"):
        found[class_name(hint)] = hint
        for field in _field_hints(hint):
            _collect(field, found, depth + 1)


def _field_hints(cls: type) -> list[Any]:
    """Return the annotations of a class's fields."""
    if issubclass(cls, BaseModel):
        return [field.annotation for field in cls.model_fields.values()]
    try:
        return list(typing.get_type_hints(cls).values())
    except Exception:
        return []
