"""Trees and the JSON texts they are stored as."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from eventlog.codec import dump_json
from eventlog.nesting import decode_payload

Query = Callable[[str, Sequence[Any]], list[Any]]
"""Runs SQL on a connection and returns the rows."""

PAGE_ROWS = 500


def pages(query: Query, sql: str) -> Iterator[Any]:
    """Yield all rows of a query that reads on after the row it read last."""
    after = 0
    while rows := query(sql, (after, PAGE_ROWS)):
        yield from rows
        after = rows[-1][0]


def as_tree(text: str) -> Any:
    """Return the tree of a JSON text.

    Raises:
        EventFormatError: it is none.
    """
    return decode_payload(text.encode("utf-8", "surrogatepass"))


def as_json(tree: Any) -> str:
    """Return a tree as the codec writes it."""
    return dump_json(tree).decode()
