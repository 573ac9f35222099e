"""Find what is known of a conversation by comparing messages, and keep private copies to compare with. Pure.

Equal strings are mostly the same objects, which Python compares by identity: a thousand
known messages are found in some 25 µs, where hashing them would take a thousand.
"""

from __future__ import annotations

from typing import Any

from eventlog.interrupts import raised_by_handler

DEPTH_MAX = 64
"""Messages nested deeper are not compared, but encoded each time."""
BITS_MAX = 1_000
"""Nor are integers that are longer: they take Python long to write."""


def opening(messages: list[Any]) -> tuple[Any, ...]:
    """Return what tells a conversation from others: its first two contents. Hashable."""
    return tuple(_content(m) for m in messages[:2])


def _content(message: Any) -> Any:
    """Return a message's text."""
    content = message.get("content") if type(message) is dict else None
    return content if type(content) is str else None


def common_prefix(known: list[Any], messages: list[Any]) -> int:
    """Return how many leading messages are known; usually all but the newest, found without a loop.

    ``known`` holds copies made by ``comparable``: of others, 1 would be equal to ``True``.
    """
    limit = min(len(known), len(messages))
    try:
        if known[:limit] == messages[:limit]:
            return limit
        low, high = 0, limit  # the first difference lies in [low, high)
        while high - low > 1:
            middle = (low + high) // 2
            if known[low:middle] == messages[low:middle]:
                low = middle
            else:
                high = middle
    except Exception as error:
        if raised_by_handler(error):
            raise
        return 0  # a message holds something that cannot be compared
    return low


def comparable(message: Any, depth: int = 0) -> Any:
    """Deep-copy JSON-like data; numbers equal only their like, anything else becomes what equals nothing."""
    cls = type(message)
    if cls is str or message is None:
        return message
    if cls is float or cls is bool or (cls is int and message.bit_length() <= BITS_MAX):
        return _Exact(message)
    if depth < DEPTH_MAX:
        if cls is dict:
            return {k: comparable(v, depth + 1) for k, v in message.items()}
        if cls is list:
            return [comparable(v, depth + 1) for v in message]
    return _Unequal()


class _Exact:
    """A number that equals only the same one of the same class: not 1 and ``True``, nor 0.0 and -0.0."""

    __slots__ = ("_shown",)

    def __init__(self, number: float) -> None:
        """``number`` may be a bool."""
        self._shown = (type(number), repr(number))

    def __eq__(self, other: object) -> bool:
        """Compare as written."""
        return self._shown == (type(other), repr(other) if isinstance(other, (int, float)) else "")

    __hash__ = None  # type: ignore[assignment]


class _Unequal:
    """Equals nothing, not even itself: the value it stands for may have changed."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        """Never equal."""
        return False

    __hash__ = None  # type: ignore[assignment]
