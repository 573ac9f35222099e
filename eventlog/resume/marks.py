"""Which events of a resumed execution say again what an earlier process said. Pure.

An event is told by its place, its type and its payload without what is new in every process
(ids, times, addresses, durations).
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from msgspec.json import encode

from eventlog.nesting import decode_payload
from eventlog.requests import normalise, without_moments

_DURATIONS = re.compile(rb'"[a-z_]*(?:_ms|_seconds|duration|_time)":\s*-?[0-9.eE+-]+')

SHARED = {"method_execution_": "state", "crew_kickoff_completed": "total_tokens"}
"""Fields that whatever runs at the same time changes, too."""

LIKELY_MAX = 16
"""So many events of a scope are compared in full: they come in the order they came in."""

Place = tuple[str, str]
"""Path and type."""


class Marks:
    """The recorded events that have not been said again yet."""

    def __init__(self, value: Callable[[Any], Any]) -> None:
        """``value`` fills in the references of a recorded tree."""
        self._value = value
        self._left: dict[Place, list[tuple[bytes, bytes]]] = defaultdict(list)
        """Mark and payload of each event."""
        self._ended: set[str] = set()
        """Paths of model calls that came to an end."""

    def add(self, path: str, event_type: str, payload: bytes) -> None:
        """Take a recorded event."""
        self._left[path, event_type].append((_mark(event_type, payload), payload))
        if event_type in ("llm_call_completed", "llm_call_failed"):
            self._ended.add(path)

    def take(self, path: str, event_type: str, payload: bytes, whole: Callable[[], Any]) -> bool:
        """Whether an event is on record; it is taken off. ``whole`` returns its payload with every text in place."""
        here = self._left.get((path, event_type))
        if not here:
            return False
        mark = _mark(event_type, payload)
        found = next((pair for pair in here if pair[0] == mark), None)
        if found is None and not event_type.endswith("_chunk"):
            now = calm(whole())  # a long text with an address or an id in it has another reference in every process
            likely = here[:LIKELY_MAX]
            found = next((pair for pair in likely if calm(self._value(decode_payload(pair[1]))) == now), None)
        if found is not None:
            here.remove(found)
        return found is not None

    def forget_call(self, path: str) -> None:
        """A model call at ``path`` goes to the world: only the beginning of one that never ended is repeated by it."""
        ended = path in self._ended
        for place in [p for p in self._left if p[0] == path and (ended or p[1] != "llm_call_started")]:
            del self._left[place]


def _mark(event_type: str, payload: bytes) -> bytes:
    """Return what tells a payload from others."""
    shared = next((name for prefix, name in SHARED.items() if event_type.startswith(prefix)), None)
    if shared is not None:
        tree = decode_payload(payload)
        payload = encode({k: v for k, v in tree.items() if k != shared} if isinstance(tree, dict) else tree)
    return blake2b(_DURATIONS.sub(b"", normalise(payload)), digest_size=12).digest()


def settled(tree: Any) -> bytes:
    """Return a tree as bytes without times and addresses: what is left means something."""
    return without_moments(json.dumps(tree, sort_keys=True, default=str).encode("utf-8", "replace"))


def calm(tree: Any) -> bytes:
    """Return a tree as bytes without what is new in every process."""
    text = json.dumps(tree, sort_keys=True, default=str).encode("utf-8", "replace")
    return _DURATIONS.sub(b"", normalise(text))
