"""Find every row that the pages of a damaged file still hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from eventlog.raw.pages import RawFile, RawRow
from eventlog.repair.shapes import TABLES, fits, table_of
from eventlog.repair.work import COLUMNS, Work


class Collected(msgspec.Struct):
    """What was found on the way."""

    pages: int = 0
    missing_pages: int = 0
    """Behind the end of the file."""
    broken_rows: int = 0
    """Rows of which only the key can be read."""
    wal: str = ""
    """What is wrong with the write-ahead log."""


def collect(path: Path, work: Work, on_page: Callable[[int], None]) -> Collected:
    """Put all rows of a file into the work file.

    Raises:
        OSError: it cannot be read.
    """
    raw = RawFile(path)
    try:
        found = Collected(pages=raw.pages, missing_pages=raw.missing, wal=raw.wal_broken)
        owners = raw.owners({1: "sqlite_schema", **_roots(raw)})
        page = 0
        for row in raw.rows():
            if row.page != page:
                on_page(row.page - page)
                page = row.page
            found.broken_rows += not _take(work, row, owners.get(row.page))
        return found
    finally:
        raw.close()


def _roots(raw: RawFile) -> dict[int, str]:
    """Return root page → name of every table and index that the schema still tells."""
    found: dict[int, str] = {}
    for row in raw.rows():
        if row.values is None or row.is_index or not fits(row.values, TABLES["sqlite_schema"]):
            continue
        kind, name, _, root, _ = row.values
        if bytes(kind) in (b"table", b"index") and root:
            found[root] = bytes(name).decode("utf-8", "replace")
    return found


def _take(work: Work, row: RawRow, owner: str | None) -> bool:
    """Store a row, or what an index tells; false if the row cannot be read."""
    if row.values is None:
        return owner not in COLUMNS
    name = table_of(owner, row.values, is_index=row.is_index)
    if name in COLUMNS:
        work.put(str(name), row.rowid, row.values)
    elif name is not None and name in _LEARN:
        _LEARN[name](work, row.values)
    return True


def _learn_event(work: Work, values: tuple[Any, ...]) -> None:
    """Which run had an event, and its id."""
    run, event_id, seq = values
    plain = bytes(event_id).decode("utf-8", "replace") if isinstance(event_id, bytearray) else event_id
    sql = "INSERT INTO known_events (seq, run, event_id) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET"
    work.db.execute(f"{sql} run = excluded.run, event_id = excluded.event_id", (seq, run, plain))


def _learn_place(work: Work, values: tuple[Any, ...]) -> None:
    """Which branch had an event."""
    sql = "INSERT INTO known_events (branch, seq) VALUES (?, ?) ON CONFLICT DO UPDATE SET branch = excluded.branch"
    work.db.execute(sql, values)


_LEARN: dict[str, Callable[[Work, tuple[Any, ...]], None]] = {
    "sqlite_autoindex_names_1": lambda work, row: work.put("other_names", row[3], (None, *row[:3])),
    "sqlite_autoindex_paths_1": lambda work, row: work.put("other_paths", row[2], (None, *row[:2])),
    "sqlite_autoindex_runs_1": lambda work, row: work.put("known_runs", row[1], (None, row[0])),
    "sqlite_autoindex_branches_1": lambda work, row: work.put("known_branches", row[2], (None, *row[:2])),
    "sqlite_autoindex_contents_1": lambda work, row: work.put("known_contents", row[1], (None, row[0])),
    "retained_by_seq": lambda work, row: work.put("known_retained", 0, (row[1], row[0])),
    "sqlite_autoindex_events_1": _learn_event,
    "events_by_branch": _learn_place,
}
"""Index → what to take down of an entry."""
