"""Results of steps: stored as trees, made again as what they were."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import msgspec
from pydantic import BaseModel

from eventlog.codec import Encoder
from eventlog.logger import Logger
from eventlog.references import kind_of
from eventlog.resume.declared import declared_classes, result_hint
from eventlog.resume.revive import UnrevivableError, is_redacted, revive

log = Logger(__name__)


def classes_of(function: Callable[..., Any], given: Iterable[Any], result_type: Any) -> dict[str, type]:
    """Return the classes a result may be made of: those that the function's annotation and live arguments declare."""
    while isinstance(function, partial):
        given, function = (*given, *function.args, *function.keywords.values()), function.func
    if not inspect.isroutine(function) and not inspect.isclass(function):
        function = type(function).__call__
    bound = getattr(function, "__self__", None)
    entities = [value for value in (*given, bound) if kind_of(value) is not None]
    hints = [result_type, result_hint(function)]
    found = declared_classes(None, hints)
    for entity in entities:
        found |= declared_classes(entity)
    return found


def revived(tree: Any, classes: dict[str, type], encoder: Encoder) -> Any:
    """Return a result from its stored tree, all parts in place.

    Raises:
        UnrevivableError: it cannot be made again as it was, or redaction took something from it.
    """
    if is_redacted(tree):
        raise UnrevivableError("redaction changed it")
    value = revive(tree, classes)
    if isinstance(tree, (dict, list)) and as_stored(value, encoder) != tree:
        value = revive(tree, classes, unchecked=True)  # an alias, or a validator that computes
        if as_stored(value, encoder) != tree:
            raise UnrevivableError("its class makes another value of it")
    return value


def other_type(value: Any, back: Any) -> str | None:
    """Return which type would come back as another one, somewhere in a value; ``None``: all come back as they were."""
    if type(value) is not type(back):
        return f"a {type(value).__name__} would come back as a {type(back).__name__}"
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        pairs = zip((*value, *value.values()), (*back, *back.values()), strict=False)
    elif isinstance(value, (list, tuple)):
        pairs = zip(value, back, strict=False)
    elif isinstance(value, BaseModel):
        pairs = [(it, vars(back).get(name)) for name, it in vars(value).items()]
    elif dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        pairs = [(getattr(value, name, None), getattr(back, name, None)) for name in names]
    return next((found for one, other in pairs if (found := other_type(one, other)) is not None), None)


def as_stored(value: Any, encoder: Encoder) -> Any:
    """Return the tree of a value as it would be stored, all parts in place."""
    return msgspec.json.decode(msgspec.json.encode(encoder.inline({"value": value})))["value"]


def tell_user(text: str) -> None:
    """Warn as Python does, so that it is seen without any set-up; where warnings are errors, it is only logged."""
    try:
        warnings.warn(text, stacklevel=2)
    except Warning:
        log.warning("step_warning", text=text)
