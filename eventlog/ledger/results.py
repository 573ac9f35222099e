"""Results of steps: stored as trees, made again as what they were."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from eventlog.codec import Encoder
from eventlog.references import kind_of
from eventlog.resume.declared import declared_classes, result_hint
from eventlog.resume.revive import UnrevivableError, is_redacted, revive


def classes_of(function: Callable[..., Any], given: Iterable[Any], result_type: Any) -> dict[str, type]:
    """Return the classes a result may be made of: those that the function's annotation and live arguments declare."""
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
    if isinstance(tree, (dict, list)) and _encoded(value, encoder) != tree:
        value = revive(tree, classes, unchecked=True)  # an alias, or a validator that computes
        if _encoded(value, encoder) != tree:
            raise UnrevivableError("its class makes another value of it")
    return value


def _encoded(value: Any, encoder: Encoder) -> Any:
    """Return a value as it would be stored."""
    return encoder.inline({"value": value})["value"]
