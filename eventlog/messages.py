"""Find what is known of a conversation by comparing messages, and keep private copies to compare with. Pure.

Equal strings are mostly the same objects, which Python compares by identity: a thousand
known messages are found in some 25 µs, where hashing them would take a thousand.
"""

from __future__ import annotations

from typing import Any

DEPTH_MAX = 64
"""Messages nested deeper are not compared, but encoded each time."""


def opening(messages: list[Any]) -> tuple[Any, ...]:
    """Return what tells a conversation from others: its first two contents. Hashable."""
    return tuple(_content(m) for m in messages[:2])


def _content(message: Any) -> Any:
    """Return a message's text."""
    content = message.get("content") if type(message) is dict else None
    return content if type(content) is str else None


def common_prefix(known: list[Any], messages: list[Any]) -> int:
    """Return how many leading messages are known; usually all but the newest, found without a loop."""
    limit = min(len(known), len(messages))
    if known[:limit] == messages[:limit]:
        return limit
    low, high = 0, limit  # the first difference lies in [low, high)
    while high - low > 1:
        middle = (low + high) // 2
        if known[low:middle] == messages[low:middle]:
            low = middle
        else:
            high = middle
    return low


def comparable(message: Any, depth: int = 0) -> Any:
    """Deep-copy JSON-like data; anything else becomes an object that equals nothing."""
    cls = type(message)
    if cls is str or message is None or cls is int or cls is float or cls is bool:
        return message
    if depth < DEPTH_MAX:
        if cls is dict:
            return {k: comparable(v, depth + 1) for k, v in message.items()}
        if cls is list:
            return [comparable(v, depth + 1) for v in message]
    return _Unequal()


class _Unequal:
    """Equals nothing, not even itself: the value it stands for may have changed."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        """Never equal."""
        return False

    __hash__ = None  # type: ignore[assignment]
