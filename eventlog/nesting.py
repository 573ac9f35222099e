"""How deep JSON nests, found out without recursion. Pure."""

from __future__ import annotations

import re

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
