"""What a step was given, as far as it tells one call from another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventlog.capture.keys import stable_key
from eventlog.references import class_name, kind_of

OUTPUT_FIELDS = ("raw", "pydantic", "json_dict")
"""What counts of an output of CrewAI's: the rest tells how it came about."""


def essence(value: Any) -> Any:
    """Return a value without what is new in every process though it means the same.

    Live crews, tasks and agents become the keys of their definitions, outputs of CrewAI what they say, functions
    their names; inside of lists, tuples and mappings too.
    """
    kind = kind_of(value)
    if kind is not None:
        return {"kind": kind, "class": class_name(type(value)), "key": stable_key(value)}
    if isinstance(value, Mapping):
        return {key: essence(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [essence(item) for item in value]
    if _is_output(value):
        return {name: getattr(value, name, None) for name in OUTPUT_FIELDS}
    return class_name(value) if callable(value) else value


def _is_output(value: Any) -> bool:
    """Whether a value is what a kickoff of CrewAI's returned."""
    return type(value).__module__.startswith("crewai.") and hasattr(value, "raw")
