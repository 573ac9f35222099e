"""What a user would write by hand with sqlite3, on a file with the settings of ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

import eventlog
from eventlog.append import INSERT_CONTENT, INSERT_EVENT
from eventlog.cli.measuring import INSERT
from eventlog.digests import COLUMNS


def insert(db: sqlite3.Connection, body: str) -> None:
    """Store one body, in a transaction of its own."""
    db.execute(INSERT, (body,))


def insert_many(db: sqlite3.Connection, bodies: Sequence[str], group: int) -> None:
    """Store bodies in transactions of that many."""
    for at in range(0, len(bodies), group):
        db.execute("BEGIN IMMEDIATE")
        db.executemany(INSERT, ((body,) for body in bodies[at : at + group]))
        db.execute("COMMIT")


class Rows(msgspec.Struct):
    """The rows that one event put into a log."""

    paths: list[Any]
    contents: list[Any]
    event: Any


def rows_of(path: Path, events: Sequence[Any]) -> list[Rows]:
    """Emit events into a log at ``path``; returns the rows of each, as they can be written into an empty log."""
    from crewai.events.event_bus import crewai_event_bus as bus

    out = []
    with eventlog.open(path) as log, log.run("r"):
        db = sqlite3.connect(path)
        marks = _marks(db)
        for event in events:
            bus.emit(None, event)
            path_id, content_id, seq = marks
            marks = _marks(db)
            out.append(
                Rows(
                    db.execute("SELECT parent, label FROM paths WHERE id > ? ORDER BY id", (path_id,)).fetchall(),
                    db.execute(
                        "SELECT c.hash, c.kind, p.hash, t.hash, c.body FROM contents AS c"
                        " LEFT JOIN contents AS p ON p.id = c.parent LEFT JOIN contents AS t ON t.id = c.text"
                        " WHERE c.id > ? ORDER BY c.id",
                        (content_id,),
                    ).fetchall(),
                    db.execute(f"SELECT {COLUMNS} FROM events WHERE seq > ? ORDER BY seq", (seq,)).fetchall()[-1],
                )
            )
        db.close()
    return out


def _marks(db: sqlite3.Connection) -> tuple[int, int, int]:
    """Return the last rows of paths, contents and events."""
    sql = "SELECT coalesce((SELECT max(id) FROM paths), 0), coalesce((SELECT max(id) FROM contents), 0),"
    return tuple(db.execute(f"{sql} coalesce((SELECT max(seq) FROM events), 0)").fetchone())


def write_rows(db: sqlite3.Connection, rows: Rows) -> None:
    """Write the rows of one event in one transaction, as short as it can be written by hand."""
    db.execute("BEGIN IMMEDIATE")
    for path in rows.paths:
        db.execute("INSERT INTO paths (parent, label) VALUES (?, ?)", path)
    for content in rows.contents:
        db.execute(INSERT_CONTENT, content)
    db.execute(INSERT_EVENT, rows.event)
    db.execute("COMMIT")
