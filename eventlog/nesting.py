"""Decode JSON that nests as deep as it likes; how deep is found out without recursion. Pure."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from eventlog.errors import EventFormatError

PAYLOAD_DEPTH_MAX = 256
"""The codec nests less; a deeper payload is malformed, whatever the stack of this process could bear."""

_BRACKET_OR_STRING = re.compile(rb'[\[{]|[\]}]|"[^"]*"?')
"""Escapes are taken out before: a pattern that knows them needs a hundred bytes of memory for each byte of a string."""


def nests_too_deep(payload: bytes, limit: int = PAYLOAD_DEPTH_MAX) -> bool:
    """Whether JSON nests deeper than ``limit``; decides without recursion, the same on every machine."""
    if len(payload) <= limit or payload.count(b"[") + payload.count(b"{") <= limit:
        return False
    depth = 0
    bare = payload.replace(b"\\\\", b"").replace(b'\\"', b"")
    for found in _BRACKET_OR_STRING.finditer(bare):
        opening = found.group()[:1]
        if opening in b"[{":
            depth += 1
            if depth > limit:
                return True
        elif opening in b"]}":
            depth -= 1
    return False


def decode_payload(data: bytes) -> Any:
    """Return the tree of a stored payload.

    Raises:
        EventFormatError: it is not JSON, or nested beyond reason.
    """
    if nests_too_deep(data):
        raise EventFormatError(f"a stored value cannot be read: it nests deeper than {PAYLOAD_DEPTH_MAX}")
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as e:
        raise EventFormatError(f"a stored value cannot be read: {e}") from e
