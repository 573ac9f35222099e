"""What stands for a live CrewAI object: a short description, never the object. Pure.

Classes are recognised by the names in their MRO, so that nothing here imports CrewAI and
a log can be written about objects whose class only the user knows.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

KINDS = {
    "crewai.agents.agent_builder.base_agent:BaseAgent": "agent",
    "crewai.lite_agent:LiteAgent": "agent",
    "crewai.task:Task": "task",
    "crewai.crew:Crew": "crew",
    "crewai.flow.flow:Flow": "flow",
    "crewai.flow.runtime:Flow": "flow",
    "crewai.llms.base_llm:BaseLLM": "llm",
    "crewai.tools.base_tool:BaseTool": "tool",
    "crewai.tools.structured_tool:CrewStructuredTool": "tool",
    "crewai.memory.unified_memory:Memory": "memory",
    "crewai.memory.memory_scope:MemoryScope": "memory",
    "crewai.memory.memory_scope:MemorySlice": "memory",
}
"""Base classes whose instances are referred to, and the kind each is called by."""

FACTS = {
    "agent": ("id", "key", "role"),
    "task": ("id", "key", "name"),
    "crew": ("id", "key", "name"),
    "flow": ("flow_id", "name"),
    "llm": ("model",),
    "tool": ("name",),
    "memory": (),
}
"""Attributes that identify an object of each kind."""

_kinds: dict[type, str | None] = {}


def class_name(cls: Any) -> str:
    """Return ``module:Qualname`` of a class or function."""
    name = getattr(cls, "__qualname__", None) or getattr(cls, "__name__", "?")
    return f"{getattr(cls, '__module__', '?')}:{name}"


def kind_of(obj: object) -> str | None:
    """Return ``agent``, ``task``, ``crew``, ``flow``, ``llm``, ``tool`` or ``memory``; else ``None``."""
    cls = type(obj)
    try:
        return _kinds[cls]
    except KeyError:
        kind = next((KINDS[n] for base in cls.__mro__ if (n := class_name(base)) in KINDS), None)
        if len(_kinds) > 10_000:  # classes made in a loop must not pile up
            _kinds.clear()
        _kinds[cls] = kind
        return kind


def read_fact(obj: object, name: str) -> str | None:
    """Return a text attribute, or ``None``: user properties may raise or hold anything."""
    try:
        value = getattr(obj, name)
    except Exception:
        return None
    return str(value)[:300] if isinstance(value, (str, UUID)) else None


def reference(obj: object) -> dict[str, str] | None:
    """Return ``{"$ref": kind, "cls": …, identifying facts}`` for a live CrewAI object; else ``None``."""
    kind = kind_of(obj)
    if kind is None:
        return None
    ref = {"$ref": kind, "cls": class_name(type(obj))}
    for name in FACTS[kind]:
        value = read_fact(obj, name)
        if value:
            ref["id" if name == "flow_id" else name] = value
    return ref
