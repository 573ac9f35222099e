"""Wrap methods of CrewAI's classes, and take the wrappers off again.

A wrapper somebody else put over ours cannot be taken out from under it: it stays and passes
through. ``BaseLLM`` subclasses made later are wrapped when they appear (``llm.py``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

MARK = "_eventlog_patch"


class Patch:
    """One wrapped method of one class."""

    def __init__(self, cls: type, name: str, around: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """``around(original)`` returns what runs while the patch is active."""
        self.cls, self.name, self._around = cls, name, around
        self.is_active = False
        self._wrapper: Any = None
        self._raw: Any = None

    def install(self) -> None:
        """Wrap the method the class itself defines; static and class methods stay what they are."""
        self._raw = self.cls.__dict__.get(self.name)
        kind = type(self._raw) if isinstance(self._raw, (staticmethod, classmethod)) else None
        original = self._raw.__func__ if kind else self._raw
        mark = getattr(original, MARK, None)  # also on a wrapper that somebody made of ours with functools.wraps
        if original is None or (mark is not None and mark.is_active):
            return
        active = self._around(original)

        patch = self

        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return (active if patch.is_active else original)(*args, **kwargs)

        setattr(wrapper, MARK, self)
        self._wrapper = kind(wrapper) if kind else wrapper
        self.is_active = True
        setattr(self.cls, self.name, self._wrapper)

    def remove(self) -> None:
        """Stop wrapping."""
        if self._wrapper is not None and self.cls.__dict__.get(self.name) is self._wrapper:
            setattr(self.cls, self.name, self._raw)
        self.is_active, self._wrapper = False, None


def is_wrapped(cls: type, name: str) -> bool:
    """Whether a method that the class itself defines is wrapped now."""
    raw = cls.__dict__.get(name)
    mark = getattr(getattr(raw, "__func__", raw), MARK, None)
    return mark is not None and mark.is_active
