"""Looks at the file itself, through a connection of its own: what is stored, and whether it holds together."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from eventlog.ids import shown_id, stored_id
from eventlog.verifying.verify import Wish, verify_log

NO_JSON = "a stored value cannot be read"
INVENTED = re.compile(r"content .{0,8} is missing", re.DOTALL)


def query(path: Path, sql: str) -> list[Any]:
    """Return all rows. In the process that writes the log, only after the log was closed or by another connection."""
    with closing(sqlite3.connect(path, timeout=5)) as db:
        return db.execute(sql).fetchall()


def stored_ids(path: Path) -> list[str]:
    """Return the ids of all events, in order."""
    return [str(shown_id(row[0])) for row in query(path, "SELECT event_id FROM events ORDER BY seq")]


def stored_types(path: Path) -> list[str]:
    """Return the types of all events, in order."""
    sql = "SELECT names.name FROM events JOIN names ON names.id = events.type ORDER BY seq"
    return [str(row[0]) for row in query(path, sql)]


def numbers(path: Path, *, field: str = "n") -> list[int]:
    """Return the number in the payload of each event that has one, in order."""
    sql = f"SELECT json_extract(payload, '$.{field}') FROM events ORDER BY seq"
    return [int(row[0]) for row in query(path, sql) if row[0] is not None]


def problems(path: Path, *, deep: bool = True, head: str | None = None) -> Iterator[str]:
    """Yield what is wrong with a file: everything ``eventlog verify --deep`` finds."""
    for found in verify_log(path, Wish(deep=deep, head=head)).findings:
        yield f"{found.kind}, seq {found.seq}: {found.what}"


def unexpected(path: Path, head: str | None = None) -> Iterator[str]:
    """Yield what is wrong with a file, but for what invented histories bring with them.

    Those have payloads that are no JSON, and short texts in the place of the hash of a content.
    """
    for line in problems(path, head=head):
        if NO_JSON not in line and not INVENTED.search(line):
            yield line


def tombstones(path: Path, what: str) -> dict[Any, bytes]:
    """Return the proofs of rows that differ from their digest on purpose."""
    return dict(query(path, f"SELECT id, proof FROM tombstones WHERE what = '{what}'"))


def missing(witnessed: list[str], path: Path) -> list[str]:
    """Return the witnessed ids the log does not hold."""
    there = {stored_id(event_id) for event_id in stored_ids(path)}
    return [event_id for event_id in witnessed if stored_id(event_id) not in there]
