"""What a step was given, as far as it tells one call from another."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from enum import Enum
from functools import partial
from hashlib import blake2b
from typing import Any

from pydantic import BaseModel

from eventlog.capture.keys import stable_key
from eventlog.references import class_name, kind_of, reference

OUTPUT_FIELDS = ("raw", "pydantic", "json_dict")
"""What counts of an output of CrewAI's: the rest tells how it came about."""
DEPTH_MAX = 40
_NAMED = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)
_PLAIN = (str, bytes, int, float, complex, bool, type(None))


def essence(value: Any, depth: int = 0) -> Any:
    """Return a value without what is new in every process though it means the same.

    Live crews, tasks and agents become the keys of their definitions, outputs of CrewAI what they say, functions
    their names and what they are bound to, objects their state; inside of lists, tuples and mappings too. The order
    of a mapping means nothing.
    """
    if isinstance(value, _PLAIN) or depth > DEPTH_MAX:
        return value if isinstance(value, _PLAIN) else class_name(type(value))
    kind = kind_of(value)
    if kind is not None:
        return {**(reference(value) or {}), "id": None, "key": stable_key(value)}
    if isinstance(value, Mapping):
        pairs = [[essence(key, depth + 1), essence(item, depth + 1)] for key, item in value.items()]
        return {"mapping": sorted(pairs, key=repr)}
    if isinstance(value, (list, tuple)):
        return [essence(item, depth + 1) for item in value]
    if _is_output(value):
        return {name: getattr(value, name, None) for name in OUTPUT_FIELDS}
    return _essence_of_object(value, depth + 1)


def _essence_of_object(value: Any, depth: int) -> Any:
    """Return what tells an object from others."""
    if isinstance(value, partial):
        return ["partial", essence([value.func, value.args, value.keywords], depth)]
    if isinstance(value, types.MethodType):
        return [class_name(value), essence(value.__self__, depth) if kind_of(value.__self__) else None]
    if isinstance(value, _NAMED):
        return class_name(value)
    if hasattr(value, "tobytes") and hasattr(value, "dtype"):  # an array of numpy's
        return [str(value.dtype), str(getattr(value, "shape", "")), blake2b(value.tobytes()).hexdigest()]
    state = _state_of(value)
    return [class_name(type(value)), essence(state, depth)] if state else value


def _state_of(value: Any) -> dict[str, Any]:
    """Return the attributes of an object of a class of the user's; nothing of what the encoder knows by itself."""
    cls = type(value)
    if cls.__module__.partition(".")[0] in sys.stdlib_module_names or isinstance(value, (BaseModel, Enum)):
        return {}
    slots = [name for base in cls.__mro__ for name in _names(base.__dict__.get("__slots__", ()))]
    state = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return state | dict(getattr(value, "__dict__", {}))


def _names(slots: Any) -> tuple[str, ...]:
    """Return the names of slots; one alone may be a text."""
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _is_output(value: Any) -> bool:
    """Whether a value is what a kickoff of CrewAI's returned."""
    return type(value).__module__.startswith("crewai.") and hasattr(value, "raw")
