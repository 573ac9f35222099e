"""Tags for the values JSON has no place for. Pure; called by ``codec.py`` for everything not plain."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import pathlib
import types
import uuid
from typing import TYPE_CHECKING, Any

from eventlog.interrupts import raised_by_handler
from eventlog.references import class_name, reference

if TYPE_CHECKING:
    from eventlog.codec import Encoding

CALLABLES = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.BuiltinMethodType)


def tag_special(work: Encoding, value: Any, depth: int) -> Any:
    """Return the tree of a value that is not exactly a JSON type."""
    for classes, tag in _TAGS:
        if isinstance(value, classes):
            return tag(work, value, depth)
    return tag_object(work, value, depth)


def tag_object(work: Encoding, value: Any, depth: int) -> Any:
    """Return a live CrewAI object as a reference, data classes as their fields, the rest as a placeholder."""
    ref = reference(value)
    if ref is not None:
        return {k: work.short(v) for k, v in ref.items()}
    if hasattr(type(value), "model_fields") and hasattr(value, "__pydantic_fields_set__"):
        return work.nested(value, lambda v, d: tag_model(work, v, d), depth)
    if dataclasses.is_dataclass(value):
        return work.nested(value, lambda v, d: tag_dataclass(work, v, d), depth)
    if hasattr(value, "get_secret_value"):
        return work.secret(str(value.get_secret_value()), depth)
    if hasattr(value, "items") and hasattr(value, "keys"):
        return work.nested(value, work.mapping, depth)
    if callable(value):
        return {"$function": work.short(class_name(type(value)) + "()")}
    return work.placeholder("$object", value, repr=work.text(safe_repr(value)))


def tag_model(work: Encoding, value: Any, depth: int) -> Any:
    """Return a pydantic model as its class name and public fields."""
    fields = dict(value.__dict__)
    fields.update(getattr(value, "__pydantic_extra__", None) or {})
    private = getattr(type(value), "__private_attributes__", {})
    shown = {k: v for k, v in fields.items() if k not in private}
    return {"$model": class_name(type(value)), "fields": work.mapping(shown, depth)}


def tag_dataclass(work: Encoding, value: Any, depth: int) -> Any:
    """Return a dataclass as its class name and fields."""
    fields = {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
    return {"$dataclass": class_name(type(value)), "fields": work.mapping(fields, depth)}


def safe_repr(value: Any) -> str:
    """Return ``repr``, shortened; a repr that raises says so."""
    try:
        return repr(value)[:500]
    except Exception as error:
        if raised_by_handler(error):
            raise
        return f"<repr raised {type(error).__name__}>"


def _error(work: Encoding, value: BaseException, depth: int) -> Any:
    """An exception: its class, message and arguments."""
    try:
        message = str(value)
    except Exception as error:
        if raised_by_handler(error):
            raise
        message = safe_repr(value)
    return work.nested(
        value,
        lambda v, d: {
            "$error": class_name(type(v)),
            "msg": work.text(message),
            "args": work.sequence(v.args[:20], d),
        },
        depth,
    )


def _set(work: Encoding, value: Any, depth: int) -> Any:
    """A set, in an order that does not change from process to process."""
    items = work.nested(value, work.sequence, depth)
    return {"$set": sorted(items, key=repr)} if isinstance(items, list) else items


def _tuple(work: Encoding, value: Any, depth: int) -> Any:
    """A tuple; a named one is just a tuple."""
    items = work.nested(value, work.sequence, depth)
    return {"$tuple": items} if isinstance(items, list) else items


def _enum(work: Encoding, value: enum.Enum, depth: int) -> Any:
    """An enumeration member and its value; one that is a string is just that string."""
    if isinstance(value, str):
        return work.text(str.__str__(value.value))
    return {"$enum": class_name(type(value)), "v": work.value(value.value, depth + 1)}


def _named(name: str, attribute: str = "") -> Any:
    """A value that its text describes fully."""

    def tag(work: Encoding, value: Any, _depth: int) -> Any:
        return {name: work.short(getattr(value, attribute)() if attribute else str(value))}

    return tag


_TAGS: tuple[tuple[Any, Any], ...] = (
    (enum.Enum, _enum),
    (bool, lambda _w, v, _d: bool(v)),
    (int, lambda w, v, _d: w.number(int(v))),
    (str, lambda w, v, _d: w.text(str.__str__(v))),
    (float, lambda w, v, d: w.value(float(v), d)),
    (dict, lambda w, v, d: w.nested(v, w.mapping, d)),
    (list, lambda w, v, d: w.nested(v, w.sequence, d)),
    (tuple, _tuple),
    ((set, frozenset), _set),
    (datetime.datetime, _named("$datetime", "isoformat")),
    (datetime.date, _named("$date", "isoformat")),
    (datetime.time, _named("$time", "isoformat")),
    (datetime.timedelta, lambda _w, v, _d: {"$timedelta": v.total_seconds()}),
    (uuid.UUID, _named("$uuid")),
    (pathlib.PurePath, _named("$path")),
    (decimal.Decimal, _named("$decimal")),
    ((bytes, bytearray, memoryview), lambda w, v, _d: w.bytes_tag("$bytes", bytes(v))),
    (type, lambda w, v, _d: {"$type": w.short(class_name(v))}),
    (BaseException, _error),
    (CALLABLES, lambda w, v, _d: {"$function": w.short(class_name(v))}),
)
"""Tried in this order: a bool is an int, a datetime is a date, an enum may be either."""
