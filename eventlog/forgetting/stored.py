"""The texts of stored rows: every payload, body and state that forgetting reads or writes passes here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from eventlog.codec import dump_json
from eventlog.read import decode_payload

Query = Callable[[str, Sequence[Any]], list[Any]]
"""Runs SQL on a connection and returns the rows."""


def opened(text: str) -> str:
    """Return a stored text as it was written; the place to unseal it."""
    return text


def closed(text: str) -> str:
    """Return a text as it is stored; the place to seal it."""
    return text


def as_tree(text: str) -> Any:
    """Return the tree of a JSON text.

    Raises:
        EventFormatError: it is none.
    """
    return decode_payload(text.encode("utf-8", "surrogatepass"))


def as_json(tree: Any) -> str:
    """Return a tree as the codec writes it."""
    return dump_json(tree).decode()
