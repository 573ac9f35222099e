"""A connection to whatever a file is, and what is wrong with it as a database: before a single event is looked at."""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path

from eventlog.digests import keep_bytes
from eventlog.errors import FormatTooNewError, LogNotFoundError, LogOpenError, NotAnEventLogError
from eventlog.raw.wal import read_wal, wal_of
from eventlog.schema import (
    APPLICATION_ID,
    FORMAT,
    FORMER_OBJECTS,
    expected_objects,
    objects_digest,
    read_lock,
    stand_ins,
    stored_objects,
)
from eventlog.storage import open_unchecked
from eventlog.transactions import translated
from eventlog.verifying.report import Findings

SIGNS = (
    b"CREATE TRIGGER events_never_vanish BEFORE",
    b"CREATE TABLE events (\n  seq INTEGER",
    b"INDEX events_of_record ON",
)
"""In the bytes of every log, and of nothing else, unless somebody wrote about it; they stand on several pages."""
HEADER = struct.Struct(">16s 52x I")
"""The beginning of an SQLite database, and its application id."""
SIGN_PART_BYTES = 1 << 20
WAL_LOOKS_MAX = 4
"""A log that is being written to looks broken for a moment; what stays is."""
_LOCKED = ("locked", "busy", "unable to open")


def open_for_check(path: Path, findings: Findings) -> sqlite3.Connection | None:
    """Return a connection to a log, however damaged; ``None`` when SQLite reads nothing of it.

    Raises:
        LogNotFoundError, NotAnEventLogError, FormatTooNewError: it is no log that could be damaged.
        LogOpenError: it cannot be read at the moment.
    """
    if not path.exists():
        raise LogNotFoundError(str(path))
    with translated(path):
        if path.stat().st_size == 0:
            raise NotAnEventLogError(str(path), "the file is empty")
        _check_wal(path, findings)
        try:
            return _identified(open_unchecked(path), path, findings)
        except sqlite3.DatabaseError as error:
            return _damaged(path, findings, error)


def _identified(db: sqlite3.Connection, path: Path, findings: Findings) -> sqlite3.Connection:
    """Return the connection of a file that is a log, with what it has too much or too little taken down."""
    try:
        db.text_factory = keep_bytes
        objects = stored_objects(db)
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        expected = expected_objects(sealed=bool(read_lock(db, objects)))
        is_former = objects_digest(objects) == FORMER_OBJECTS.get(version)
        if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            if objects != expected:
                raise NotAnEventLogError(str(path), "an SQLite database of another program")
            findings.add("file", "its first page says that it belongs to another program")
        if version > FORMAT:
            if objects != expected:
                raise FormatTooNewError(str(path), f"format {version}, this version knows {FORMAT}")
            findings.add("file", f"its first page says that its format is {version}; its tables are those of {FORMAT}")
        if not is_former:
            _compare(objects, expected, findings)
        if is_former:
            stand_ins(db)
        _check_size(db, path, findings)
    except BaseException:
        db.close()
        raise
    return db


def _compare(found: dict[str, str], expected: dict[str, str], findings: Findings) -> None:
    """Take down tables, indexes, triggers and views that are not as we make them."""
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            findings.add("schema", f"{name} is missing")
        elif name not in expected:
            findings.add("schema", f"{name} is none of ours: nothing is appended to such a file")
        elif found[name] != expected[name]:
            findings.add("schema", f"{name} differs from what this library makes")


def _damaged(path: Path, findings: Findings, error: sqlite3.DatabaseError) -> sqlite3.Connection | None:
    """Take down why SQLite refuses the file, and try whether it reads some of it if told to go on."""
    text = str(error)
    if any(word in text for word in _LOCKED):
        raise LogOpenError(str(path), text) from error
    if not is_marked(path):
        raise NotAnEventLogError(str(path), "neither a log nor what is left of one") from error
    try:
        db = open_unchecked(path, tolerant=True)
    except sqlite3.DatabaseError:
        db = None
    if db is not None:
        try:
            db.text_factory = keep_bytes
            db.execute("SELECT seq, digest FROM events LIMIT 1").fetchone()
        except sqlite3.DatabaseError as again:
            db.close()
            db, text = None, str(again)
    readable = "" if db is not None else "nothing through SQLite; see what its pages still hold: eventlog repair"
    findings.add("file", f"SQLite refuses it: {text}", readable=readable)
    return db


def is_marked(path: Path) -> bool:
    """Whether the bytes of a file, or of its write-ahead log, are those of a log."""
    for name in (path, wal_of(path)):
        if name.exists():
            with name.open("rb") as file:
                rest = file.read(HEADER.size)
                if len(rest) == HEADER.size and HEADER.unpack(rest) == (b"SQLite format 3\0", APPLICATION_ID):
                    return True
                while part := file.read(SIGN_PART_BYTES):
                    if any(sign in rest + part for sign in SIGNS):
                        return True
                    rest = part[-max(map(len, SIGNS)) :]
    return False


def _check_size(db: sqlite3.Connection, path: Path, findings: Findings) -> None:
    """Take down that the file ends before its last page does; SQLite fills up what is missing with zeros."""
    pages, page_bytes = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    missing = pages * page_bytes - path.stat().st_size
    if missing > 0 and not read_wal(path).pages:
        findings.add("file", f"it ends {missing} bytes early")


def _check_wal(path: Path, findings: Findings) -> None:
    """Take down what the write-ahead log holds and SQLite does not see."""
    before = None
    for _ in range(WAL_LOOKS_MAX):
        wal = read_wal(path)
        if not wal.broken:
            return
        if before is not None and (wal.broken, wal.lost) == (before.broken, before.lost):
            many = f"; {wal.lost} later transactions are lost to SQLite" if wal.lost else ""
            findings.add("wal", f"{path.name}-wal: {wal.broken}{many}", readable="what was written before")
            return
        before = wal
