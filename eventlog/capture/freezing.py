"""Copies of plain payloads, to be encoded later: whoever emitted them may change the originals meanwhile.

Texts cannot change and are shared. What is already known of a conversation is found by comparing, and the former
copies serve again. Whatever is not plain, like a live object, has to be encoded at once.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from eventlog.codec import AsContent
from eventlog.contents import Cache
from eventlog.messages import common_prefix, opening

TALKS_CHARS_MAX = 1_000_000
"""Of the copies that one generation of the cache holds alive; those of a conversation count when they are made."""
DEPTH_MAX = 32
VALUES_MAX = 20_000
"""More of them are encoded at once: to copy them would take as long."""

_LEAVES = frozenset({str, int, float, bool, type(None)})


class Frozen:
    """A payload as it was."""

    __slots__ = ("chars", "fields")

    def __init__(self, fields: dict[str, Any], chars: int) -> None:
        """``chars``: of the texts that are new in it, roughly."""
        self.fields, self.chars = fields, chars


class NotPlainError(Exception):
    """It holds something that cannot be copied."""


class Freezer:
    """Makes the copies of one recorder."""

    def __init__(self) -> None:
        """No conversation is known yet."""
        self._talks: Cache[Hashable, list[Any]] = Cache(TALKS_CHARS_MAX)

    def freeze(self, fields: Mapping[str, Any]) -> Frozen | None:
        """Return a copy of the fields of an event, or ``None`` where that cannot be had."""
        copying = _Copying()
        try:
            copies = {
                key: self._talk(value, copying) if key == "messages" and type(value) is list else copying.copy(value)
                for key, value in fields.items()
            }
        except NotPlainError:
            return None
        return Frozen(copies, copying.chars)

    def _talk(self, messages: list[Any], copying: _Copying) -> list[Any]:
        """Return a list of messages; it is never changed, so the next one may begin with the same copies."""
        key = opening(messages)
        known = self._talks.get(key) or []
        keep = common_prefix(known, messages)
        if keep == len(messages) == len(known):
            return known
        talk = [*known[:keep], *(copying.copy(message) for message in messages[keep:])]
        copying.chars += 8 * len(talk)  # this list itself
        self._talks.put(key, talk, copying.chars + 100 * len(talk))
        return talk


class _Copying:
    """One pass over one payload."""

    __slots__ = ("chars", "values")

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self.chars = self.values = 0

    def copy(self, value: Any, depth: int = 0) -> Any:
        """Return a copy of a plain value.

        Raises:
            NotPlainError: there is something else in it, or too much.
        """
        cls = type(value)
        if cls in _LEAVES:
            if cls is str:
                self.chars += len(value)
            return value
        self.values += 1
        if depth > DEPTH_MAX or self.values > VALUES_MAX:
            raise NotPlainError
        if cls is dict:
            return {self.copy(k, depth + 1): self.copy(v, depth + 1) for k, v in value.items()}
        if cls is list:
            return [self.copy(item, depth + 1) for item in value]
        if cls is AsContent:
            return AsContent(self.copy(value.value, depth + 1), value.whole)
        raise NotPlainError
