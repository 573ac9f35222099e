"""Make Python values of stored trees, exactly or not at all. Pure.

Classes come from the caller, who found them in the user's live objects: a name in the file is
a key into that table and nothing more. What cannot be made again (a live object, a class that
is not declared) raises ``UnrevivableError``; with ``lenient`` a model of a class that nobody
declared becomes the dict of its fields.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import enum
import pathlib
import types
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from pydantic import BaseModel

from eventlog.errors import EventLogError
from eventlog.redact import MARKER

Classes = Mapping[str, type]
"""``module:Qualname`` → class."""


class UnrevivableError(EventLogError):
    """A stored value cannot be made again in this process."""

    hint = "it is made anew by running the code that made it"


class RecordedError(Exception):
    """Stands for a recorded exception whose class only its own process knew; same message."""


def revive(tree: Any, classes: Classes, *, lenient: bool = False, unchecked: bool = False) -> Any:
    """Return the value a tree stands for. ``unchecked``: models get their fields as recorded, past their validators.

    Raises:
        UnrevivableError: a part of it cannot be made again.
    """
    try:
        return _revive(tree, classes, lenient=lenient, unchecked=unchecked)
    except RecursionError as error:
        raise UnrevivableError("a stored value nests too deep") from error


def _revive(tree: Any, classes: Classes, *, lenient: bool, unchecked: bool) -> Any:
    """Return the value a tree stands for."""
    if isinstance(tree, list):
        return [_revive(item, classes, lenient=lenient, unchecked=unchecked) for item in tree]
    if not isinstance(tree, dict):
        return tree
    tag = next(iter(tree), "")
    if not tag.startswith("$"):
        return {key: _revive(value, classes, lenient=lenient, unchecked=unchecked) for key, value in tree.items()}
    return _tagged(tag, tree, classes, lenient=lenient, unchecked=unchecked)


def _tagged(tag: str, tree: dict[str, Any], classes: Classes, *, lenient: bool, unchecked: bool) -> Any:
    """Return the value of a tag."""
    try:
        if tag in _SIMPLE:
            return _SIMPLE[tag](tree[tag])
        if tag in _NESTED:
            return _NESTED[tag](tree[tag], lambda inner: _revive(inner, classes, lenient=lenient, unchecked=unchecked))
        if tag in ("$model", "$dataclass"):
            fields = {k: _revive(v, classes, lenient=lenient, unchecked=unchecked) for k, v in tree["fields"].items()}
            return _instance(tree[tag], fields, classes, lenient=lenient, unchecked=unchecked)
        if tag == "$enum":
            return _member(tree, classes, lenient=lenient, unchecked=unchecked)
    except (UnrevivableError, RecursionError):
        raise
    except Exception as error:  # constructors and validators of the user's may raise anything
        raise UnrevivableError(f"{tag} {str(tree)[:80]}: {error}") from error
    raise UnrevivableError(f"{tag} {str(tree.get(tag))[:80]} stands for something that was alive")


def _instance(name: str, fields: dict[str, Any], classes: Classes, *, lenient: bool, unchecked: bool) -> Any:
    """Return an object of a declared class, or its fields."""
    cls = classes.get(name)
    if cls is None:
        if lenient:
            return fields
        raise UnrevivableError(f"no declared class is called {name}")
    if not issubclass(cls, BaseModel):
        return cls(**fields)
    return cls.model_construct(**fields) if unchecked else cls.model_validate(fields)


def _member(tree: dict[str, Any], classes: Classes, *, lenient: bool, unchecked: bool) -> Any:
    """Return a member of a declared enumeration, or its value."""
    cls, value = classes.get(tree["$enum"]), _revive(tree.get("v"), classes, lenient=lenient, unchecked=unchecked)
    if cls is not None and issubclass(cls, enum.Enum):
        return cls(value)
    if lenient:
        return value
    raise UnrevivableError(f"no declared enumeration is called {tree['$enum']}")


def revive_error(tree: Any) -> Exception:
    """Return an exception with the recorded message, of the recorded class where this process has loaded it.

    The name is a key into the exception classes that exist; no constructor of theirs is called, ``__new__`` neither.
    """
    if not isinstance(tree, dict) or "$error" not in tree:
        return RecordedError(str(tree))
    message, cls = tree.get("msg", ""), _loaded_errors().get(str(tree["$error"]))
    if cls is not None:
        with suppress(Exception):  # a class that needs its constructor
            error = _blank(cls)
            vars(BaseException)["args"].__set__(error, tuple(revive(tree.get("args", []), {})))
            if str(error) == message:
                return error
    return RecordedError(message)


def _blank(cls: type[Exception]) -> Exception:
    """Return an exception that nothing was done to, by the ``__new__`` of the class of Python's own that it extends."""
    made = (vars(base).get("__new__") for base in cls.__mro__)
    error: Exception = next(new for new in made if isinstance(new, types.BuiltinFunctionType))(cls)
    return error


def _loaded_errors() -> dict[str, type[Exception]]:
    """Return every exception class there is by ``module:Qualname``."""
    found: dict[str, type[Exception]] = {}
    waiting: list[type[Exception]] = [Exception]
    while waiting:
        cls = waiting.pop()
        name = f"{cls.__module__}:{cls.__qualname__}"
        if name not in found:
            found[name] = cls
            waiting.extend(type.__subclasses__(cls))
    return found


def is_redacted(tree: Any) -> bool:
    """Whether a marker of redaction stands somewhere in a tree."""
    work = [tree]
    while work:
        node = work.pop()
        if isinstance(node, str):
            if MARKER in node:
                return True
        elif isinstance(node, dict):
            work.extend(node)
            work.extend(node.values())
        elif isinstance(node, list):
            work.extend(node)
    return False


def _text(data: str) -> str:
    """Return a text that is not quite Unicode."""
    return base64.b64decode(data).decode("utf-8", "surrogatepass")


_SIMPLE: dict[str, Callable[[Any], Any]] = {
    "$float": float,
    "$int": lambda text: int(text, 0),
    "$str": _text,
    "$bytes": base64.b64decode,
    "$datetime": datetime.datetime.fromisoformat,
    "$date": datetime.date.fromisoformat,
    "$time": datetime.time.fromisoformat,
    "$timedelta": lambda seconds: datetime.timedelta(seconds=seconds),
    "$uuid": uuid.UUID,
    "$path": pathlib.Path,
    "$decimal": decimal.Decimal,
}
_NESTED: dict[str, Callable[[Any, Callable[[Any], Any]], Any]] = {
    "$tuple": lambda items, value: tuple(value(item) for item in items),
    "$set": lambda items, value: {value(item) for item in items},
    "$map": lambda pairs, value: {value(k): value(v) for k, v in pairs},
}
