"""Encode again what was encoded before: an import passes through redaction and finds its contents anew. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventlog.codec import DEPTH_MAX, AsContent, Encoded, Encoder, Encoding

_APART = {"eventlog.definition": {"definition": False, "native": True}, "llm_call_started": {"tools": False}}
"""Event type → the fields that capture keeps among the contents however small they are, and whether whole."""


class Recoder(Encoder):
    """Encodes trees with every reference filled in and their tags in place; gives what the log held before."""

    def begin(self, *, clean: bool) -> Encoding:
        """Return a pass that knows tags."""
        return _TaggedEncoding(self, clean=clean)

    def path(self, path: str) -> str:
        """Return a logical path whose labels hold no secrets."""
        return "/".join(map(self.text, path.split("/")))

    def encode_again(self, event_type: str, payload: Mapping[str, Any]) -> Encoded:
        """Return the payload of an exported event."""
        apart = _APART.get(event_type, {})
        fields = {k: AsContent(v, apart[k]) if k in apart else v for k, v in payload.items()}
        return self.encode(fields)


class _TaggedEncoding(Encoding):
    """A pass in which keys that begin with ``$`` are tags, not a user's keys."""

    def value(self, value: Any, depth: int = 1) -> Any:
        """Return the tree; it was cut to depth when it was encoded first, and its tags nest it deeper."""
        return super().value(value, min(depth, DEPTH_MAX - 1))

    def mapping(self, items: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        """Return an object with its tags as they are."""
        if next(iter(items), "").startswith("$"):
            return {key: self.field(key, value, depth) for key, value in items.items()}
        return super().mapping(items, depth)
