"""Name a request to a language model so that the same request has the same name tomorrow. Pure.

Only what the model sees counts (role, content, tool calls, names), after redaction, with
UUIDs, timestamps and memory addresses put to sleep: they are new in every process and
change no meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import msgspec

MESSAGE_KEYS = ("role", "content", "tool_calls", "name", "tool_call_id")
"""What of a message the model sees."""

_UUID = rb"[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}"
_PASSING = (
    rb"\b0x[0-9a-fA-F]{6,16}\b|current_usage_count=\d+"  # CrewAI's planner is shown repr(tool)
    rb"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?"
)
_VOLATILE = re.compile(_UUID + rb"|" + _PASSING)
_MOMENT = re.compile(_PASSING)
_ID = re.compile(_UUID)
_ADDRESS = re.compile(rb"(?<= at )0x[0-9a-fA-F]{6,16}\b")
"""As Python writes it: ``<Tool object at 0x7f…>``; an error code, say, is no address."""
_encode = msgspec.json.Encoder(order="deterministic").encode


def normalise(data: bytes) -> bytes:
    """Return ``data`` with everything that is new in every process replaced by one placeholder."""
    return _VOLATILE.sub(b"~", data)


def without_moments(data: bytes) -> bytes:
    """Return ``data`` without times and addresses in memory; an id counts: it may be what the text is about."""
    return _MOMENT.sub(b"~", data)


def volatile_ids(data: bytes) -> list[bytes]:
    """Return the UUIDs in ``data``, in order."""
    return _ID.findall(data)


def moments(data: bytes) -> list[bytes]:
    """Return the times and addresses in ``data``, in order."""
    return _MOMENT.findall(data)


def without_addresses(data: bytes) -> bytes:
    """Return ``data`` without addresses in memory: of what is meant to be told apart, only they mean nothing."""
    return _ADDRESS.sub(b"~", data)


def message_hash(parent: bytes, tree: Any) -> bytes:
    """Return the hash of a conversation that goes on with the encoded message ``tree``."""
    if isinstance(tree, dict):
        tree = {k: tree[k] for k in MESSAGE_KEYS if tree.get(k) is not None}
    return blake2b(parent + normalise(_encode(tree)), digest_size=16).digest()


def request_hash(conversation: bytes, facts: Iterable[Any]) -> str:
    """Return the name of a request: its conversation and other facts (tools, model, response model)."""
    return blake2b(conversation + normalise(_encode(list(facts))), digest_size=12).hexdigest()
