"""The work file of a repair: rows as they were found, in tables that refuse nothing. Private, and gone at the end."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from eventlog.digests import keep_bytes

COLUMNS = {
    "meta": "key PRIMARY KEY, value",
    "names": "id INTEGER PRIMARY KEY, kind, name, label",
    "paths": "id INTEGER PRIMARY KEY, parent, label",
    "runs": "id INTEGER PRIMARY KEY, name, created_ns, attribution, epoch",
    "branches": "id INTEGER PRIMARY KEY, run, name, parent, fork_seq, base_seq, created_ns, owner, epoch,"
                " lease_until_ns",
    "executions": "branch, path, parent, kind, name, key, inputs_hash, status, started_seq, ended_seq,"
                  " PRIMARY KEY (branch, path)",
    "contents": "id INTEGER PRIMARY KEY, hash, kind, parent, text, body, verdict",
    "events": "seq INTEGER PRIMARY KEY, branch, run, event_id, type, at_ns, parent, previous, triggered, started,"
              " emission, task, agent, path, flags, payload, digest, verdict, confirmed",
    "snapshots": "id INTEGER PRIMARY KEY, branch, seq, kind, projection, version, trigger, created_ns, state",
    "checkpoint_marks": "id INTEGER PRIMARY KEY, name, created_at, branch, seq, trigger, parent_id, branch_name,"
                        " data",
    "bases": "branch INTEGER PRIMARY KEY, seq, digest, state, projections, spent, keeps_tape, events, created_ns,"
             " proof, verdict",
    "retained": "branch, seq, previous, PRIMARY KEY (branch, seq)",
    "tombstones": "what, id, at_ns, proof, PRIMARY KEY (what, id)",
    "other_names": "id INTEGER PRIMARY KEY, kind, name, label",
    "other_paths": "id INTEGER PRIMARY KEY, parent, label",
    "known_runs": "id INTEGER PRIMARY KEY, name",
    "known_branches": "id INTEGER PRIMARY KEY, run, name",
    "known_retained": "branch, seq, PRIMARY KEY (branch, seq)",
    "known_events": "seq INTEGER PRIMARY KEY, run, event_id, branch",
    "known_contents": "id INTEGER PRIMARY KEY, hash",
    "lost": "seq INTEGER PRIMARY KEY, branch, taken",
    "markers": "seq INTEGER PRIMARY KEY, branch, payload, digest",
    "wanted": "hash PRIMARY KEY, seq, is_talk, done",
}  # fmt: skip
"""``other_*`` and ``known_*`` come from indexes, ``verdict`` and ``confirmed`` from those who judge."""
INDEXES = (
    "CREATE INDEX events_by_branch ON events (branch, seq)",
    "CREATE INDEX contents_by_hash ON contents (hash)",
    "CREATE INDEX retained_by_seq ON retained (seq)",
)
KEYED = frozenset(
    "names paths runs branches contents events snapshots checkpoint_marks bases other_names other_paths known_runs"
    " known_branches known_contents".split()
)
"""Tables whose key is the rowid."""


class Work:
    """A database of found rows."""

    def __init__(self) -> None:
        """Make it, empty."""
        self.folder = Path(mkdtemp(prefix="eventlog-"))
        self.db = sqlite3.connect(self.folder / "work.db", isolation_level=None)
        self.db.text_factory = keep_bytes
        self.db.execute("PRAGMA journal_mode = OFF")  # nobody will miss it
        self.db.execute("PRAGMA synchronous = OFF")
        self.db.execute("PRAGMA cache_size = -64000")
        for table, columns in COLUMNS.items():
            self.db.execute(f"CREATE TABLE {table} ({columns})")
        for index in INDEXES:
            self.db.execute(index)
        self.db.execute("BEGIN")

    def put(self, table: str, rowid: int, values: tuple[Any, ...]) -> None:
        """Store a row as it was found; the first of two with the same key stays. Text that is no UTF-8 is left out."""
        row = [_plain(value) for value in values]
        if table in KEYED:
            row[0] = rowid
        marks = ",".join("?" * len(row))
        names = ",".join(name.split()[0] for name in COLUMNS[table].split(",")[: len(row)])
        self.db.execute(f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})", row)

    def one(self, sql: str, *args: Any) -> Any:
        """Return the first value of the first row; none when there is none."""
        row = self.db.execute(sql, args).fetchone()
        return None if row is None else row[0]

    def close(self) -> None:
        """Leave nothing behind."""
        self.db.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _plain(value: Any) -> Any:
    """Return a value as SQLite takes it."""
    if isinstance(value, bytearray):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    return value
