"""Credentials that live objects and the environment hold, so that they can be found in texts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from eventlog.redact import SECRET_KEY
from eventlog.references import kind_of

OBJECTS_MAX = 2_000
"""How many objects of a crew are looked at."""


def environment_secrets() -> Iterator[str]:
    """Yield values of environment variables whose name says that they are secret."""
    for name, value in os.environ.items():
        if SECRET_KEY.search(name):
            yield value


def secrets_of(root: Any) -> list[str]:
    """Return credentials of a crew, flow or agent: fields with secret names and ``SecretStr``, down to its tools."""
    found: list[str] = []
    seen: set[int] = set()
    waiting = [root]
    while waiting and len(seen) < OBJECTS_MAX:
        obj = waiting.pop()
        if id(obj) in seen:
            continue
        seen.add(id(obj))
        for name, value in _fields(obj):
            _look(name, value, found, waiting)
    return found


def _fields(obj: Any) -> list[tuple[str, Any]]:
    """Return the fields of an object, or the items of a mapping."""
    fields = obj if isinstance(obj, dict) else getattr(obj, "__dict__", None)
    return [(str(k), v) for k, v in list(fields.items())] if isinstance(fields, dict) else []


def _look(name: str, value: Any, found: list[str], waiting: list[Any]) -> None:
    """Take a secret, or remember an object to look into."""
    if hasattr(value, "get_secret_value"):
        value, name = value.get_secret_value(), "secret"
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        if SECRET_KEY.search(name):
            found.append(value)
    elif isinstance(value, dict) or kind_of(value) is not None:
        waiting.append(value)
    elif isinstance(value, (list, tuple)):
        waiting.extend(v for v in value[:200] if isinstance(v, dict) or kind_of(v) is not None)
