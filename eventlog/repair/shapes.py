"""Which table a row on a page belongs to: by the tree its page is in, or, if that is not known, by what it looks like.

Pure.
"""

from __future__ import annotations

from typing import Any

_OPTIONAL = "?"

TABLES: dict[str, tuple[str, ...]] = {
    "sqlite_schema": ("text", "text", "text", "int?", "text?"),
    "meta": ("text", "any"),
    "names": ("null", "text", "text", "text"),
    "paths": ("null", "int", "text"),
    "runs": ("null", "text", "int", "text", "int"),
    "branches": ("null", "int", "text", "int?", "int?", "int", "int", "text?", "int", "int?"),
    "executions": ("int", "int", "int?", "text", "text", "text", "text", "text", "int", "int?"),
    "contents": ("null", "text", "text", "int?", "int?", "text"),
    "events": (
        "null", "int", "int", "any", "int", "int", "any?", "any?", "any?", "any?", "int?", "int?", "int?", "int", "int",
        "text", "blob",
    ),
    "snapshots": ("null", "int", "int", "text", "text", "int", "text", "int", "text"),
    "checkpoint_marks": ("null", "text", "text", "int?", "int?", "text?", "text?", "text?", "text?"),
    "bases": ("null", "int", "blob", "text", "text", "text", "int", "int", "int", "blob"),
    "retained": ("int", "int", "blob"),
    "tombstones": ("text", "any", "int", "blob"),
}  # fmt: skip
"""What a row of each table holds; a key that is the rowid stands there as NULL."""

INDEXES: dict[str, tuple[str, ...]] = {
    "sqlite_autoindex_names_1": ("text", "text", "text", "int"),
    "sqlite_autoindex_paths_1": ("int", "text", "int"),
    "sqlite_autoindex_runs_1": ("text", "int"),
    "sqlite_autoindex_branches_1": ("int", "text", "int"),
    "sqlite_autoindex_contents_1": ("text", "int"),
    "sqlite_autoindex_events_1": ("int", "any", "int"),
    "events_by_branch": ("int", "int"),
    "retained_by_seq": ("int", "int"),
}
"""Indexes that know something of rows that are gone."""

WITHOUT_ROWID = frozenset(("meta", "executions", "retained", "tombstones"))
SURE = frozenset(TABLES) - {"meta"}
"""Rows that look like those of no other table or index."""


def table_of(owner: str | None, values: tuple[Any, ...], *, is_index: bool) -> str | None:
    """Return the table or index of a row; ``None`` for one that is of no use, or is not what its place says.

    ``owner``: the tree its page is in, if that is known.
    """
    if owner is not None:
        shape = TABLES.get(owner) or INDEXES.get(owner)
        return owner if shape is not None and fits(values, shape) else None
    for name, shape in TABLES.items():
        if name in SURE and (name in WITHOUT_ROWID) == is_index and fits(values, shape) and _is_sure(name, values):
            return name
    if is_index and fits(values, INDEXES["sqlite_autoindex_names_1"]) and bytes(values[0]) in _NAME_KINDS:
        return "sqlite_autoindex_names_1"
    if is_index and fits(values, INDEXES["sqlite_autoindex_events_1"]) and type(values[1]) is bytes:
        return "sqlite_autoindex_events_1"
    return "meta" if is_index and fits(values, TABLES["meta"]) and bytes(values[0]) in _META_KEYS else None


_NAME_KINDS = (b"type", b"task", b"agent")
_META_KEYS = (b"salt", b"chain_key", b"archive_of", b"cipher")
"""Of those whose value is a text: the name of a run with its row would look like another."""


def _is_sure(name: str, values: tuple[Any, ...]) -> bool:
    """Whether a row of a rare shape is no row of an index, nor of a table of SQLite's or sqlite-utils' own."""
    if name == "tombstones":
        return bytes(values[0]) in (b"event", b"content")
    if name == "names":  # the record of migrations looks like one
        return bytes(values[1]) in _NAME_KINDS
    return name != "retained" or len(values[2]) == 20


def fits(values: tuple[Any, ...], shape: tuple[str, ...]) -> bool:
    """Whether values are of the kinds that a table has."""
    return len(values) == len(shape) and all(map(_fits_one, values, shape))


def _fits_one(value: Any, kind: str) -> bool:
    """Whether one value is of a kind."""
    if value is None:
        return kind == "null" or kind.endswith(_OPTIONAL)
    kind = kind.removesuffix(_OPTIONAL)
    if kind == "any":
        return True
    return type(value) is {"text": bytearray, "blob": bytes, "int": int}.get(kind)
