"""Which events of a resumed execution say again what an earlier process said. Pure.

An event is told by its place, its type and its payload without what is new in every process
(ids, times, addresses, durations).
"""

from __future__ import annotations

import re
from collections import Counter
from hashlib import blake2b

from eventlog.requests import normalise

_DURATIONS = re.compile(rb'"[a-z_]*(?:_ms|_seconds|duration|_time)":\s*-?[0-9.eE+-]+')

Mark = tuple[str, str, bytes]


class Marks:
    """The recorded events that have not been said again yet."""

    def __init__(self) -> None:
        """Nothing is on record."""
        self._left: Counter[Mark] = Counter()
        self._ended: set[str] = set()
        """Paths of model calls that came to an end."""

    def add(self, path: str, event_type: str, payload: bytes) -> None:
        """Take a recorded event."""
        self._left[_mark(path, event_type, payload)] += 1
        if event_type in ("llm_call_completed", "llm_call_failed"):
            self._ended.add(path)

    def take(self, path: str, event_type: str, payload: bytes) -> bool:
        """Whether an event is on record; it is taken off."""
        mark = _mark(path, event_type, payload)
        if not self._left or self._left.get(mark, 0) <= 0:
            return False
        self._left[mark] -= 1
        return True

    def forget_call(self, path: str) -> None:
        """A model call at ``path`` goes to the world: only the beginning of one that never ended is repeated by it."""
        ended = path in self._ended
        for mark in [m for m in self._left if m[0] == path and (ended or m[1] != "llm_call_started")]:
            del self._left[mark]

    def __bool__(self) -> bool:
        """Whether anything is left."""
        return bool(self._left)


def _mark(path: str, event_type: str, payload: bytes) -> Mark:
    """Return what tells an event from others."""
    calm = _DURATIONS.sub(b"", normalise(payload))
    return path, event_type, blake2b(calm, digest_size=12).digest()
