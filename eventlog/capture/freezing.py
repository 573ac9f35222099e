"""Copies of plain payloads, to be encoded later: whoever emitted them may change the originals meanwhile.

Texts cannot change and are shared. What is already known of a conversation is found by comparing, and the former
copies serve again. Whatever is not plain, like a live object, has to be encoded at once.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from eventlog.codec import AsContent
from eventlog.contents import Cache
from eventlog.interrupts import raised_by_handler
from eventlog.messages import BITS_MAX, common_prefix, comparable, opening

TALKS_BYTES_MAX = 1_000_000
"""Of the copies that one generation of the cache holds alive; those of a conversation count when they are made."""
DEPTH_MAX = 32
VALUES_MAX = 20_000
"""More of them are encoded at once: to copy them would take as long."""
CONTAINER_BYTES, VALUE_BYTES = 64, 40
"""About what a dict or list takes, and each value in it beside its text."""

_LEAVES = frozenset({str, float, bool, type(None)})


class Frozen:
    """A payload as it was."""

    __slots__ = ("bytes", "fields")

    def __init__(self, fields: dict[str, Any], size: int) -> None:
        """``size``: bytes of what is new in it, roughly."""
        self.fields, self.bytes = fields, size


class NotPlainError(Exception):
    """It holds something that cannot be copied."""


class _Talk:
    """Copies of the messages of a conversation, and what the next ones are compared with."""

    __slots__ = ("comparables", "copies")

    def __init__(self, copies: list[Any], comparables: list[Any]) -> None:
        """Both lists are never changed: others go on with them."""
        self.copies, self.comparables = copies, comparables


_NOTHING = _Talk([], [])


class Freezer:
    """Makes the copies of one recorder."""

    def __init__(self) -> None:
        """No conversation is known yet."""
        self._talks: Cache[Hashable, _Talk] = Cache(TALKS_BYTES_MAX)

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
        except Exception as error:  # another thread changes it, or it is too deep for where we are
            if raised_by_handler(error):
                raise
            return None
        return Frozen(copies, copying.bytes)

    def _talk(self, messages: list[Any], copying: _Copying) -> list[Any]:
        """Return a list of messages; it is never changed, so the next one may begin with the same copies."""
        key = opening(messages)
        known = self._talks.get(key) or _NOTHING
        keep = common_prefix(known.comparables, messages)
        if keep == len(messages) == len(known.copies):
            return known.copies
        fresh = [copying.copy(message) for message in messages[keep:]]
        talk = _Talk([*known.copies[:keep], *fresh], [*known.comparables[:keep], *map(comparable, fresh)])
        copying.bytes += 8 * len(talk.copies)  # this list itself
        self._talks.put(key, talk, 2 * copying.bytes + 100 * len(talk.copies))
        return talk.copies


class _Copying:
    """One pass over one payload."""

    __slots__ = ("bytes", "values")

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self.bytes = self.values = 0

    def copy(self, value: Any, depth: int = 0) -> Any:
        """Return a copy of a plain value.

        Raises:
            NotPlainError: there is something else in it, or too much.
        """
        cls = type(value)
        if cls in _LEAVES or (cls is int and value.bit_length() <= BITS_MAX):
            if cls is str:
                self.bytes += len(value)
            return value
        if depth > DEPTH_MAX:
            raise NotPlainError
        if cls is dict:
            pairs = list(value.items())  # at once: another thread may be changing it
            self._count(2 * len(pairs))
            return {self.copy(k, depth + 1): self.copy(v, depth + 1) for k, v in pairs}
        if cls is list:
            items = value.copy()
            self._count(len(items))
            return [self.copy(item, depth + 1) for item in items]
        if cls is AsContent:
            return AsContent(self.copy(value.value, depth + 1), value.whole)
        raise NotPlainError

    def _count(self, values: int) -> None:
        """Count a container with so many values."""
        self.values += 1 + values
        self.bytes += CONTAINER_BYTES + VALUE_BYTES * values
        if self.values > VALUES_MAX:
            raise NotPlainError
