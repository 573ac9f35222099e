"""The tables of a log, and how a file gets them.

::

    runs 1─n branches 1─n events n─1 names   (type, task, agent: interned)
      │         │            └──── n─1 paths   (a tree of labels)
      │         ├─n executions               (index of kickoffs, derived from events)
      │         └─n snapshots                (stored states; delete them all and no answer changes)
      └ run 0, branch 0: events of no run
    branches 1─1 bases ─n retained            (what compaction kept of the events at or below a branch's base)
    contents                                  (large values, by hash; see contents.py)
    checkpoint_marks                          (rows of the view checkpoints; see checkpoints.py)
    tombstones                                (rows from which a secret was taken: they differ from their digest)
    meta                                      (format facts; last_seq: no event at or below it is ever made again;
                                               cipher: the lock of a sealed log, see seal.py)

``seq`` is ``max(meta.last_seq, max(events.seq)) + 1``, taken inside the writing transaction:
a trigger raises ``meta.last_seq`` on deletion, so a number is never used twice and the common
append does not touch ``meta``.
"""

from __future__ import annotations

import sqlite3
from functools import cache
from hashlib import blake2b
from typing import Any

from eventlog import checkpoints
from eventlog.views import EVENT_JSON

FORMAT = 2
"""``PRAGMA user_version`` of files this version writes."""
APPLICATION_ID = 0x45564C47
"""``PRAGMA application_id``: "EVLG"."""

_TABLES_1 = (
    """CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value ANY
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE names (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,   -- type | task | agent
  name TEXT NOT NULL,   -- event type, task id, agent id
  label TEXT NOT NULL,  -- class of the event, name of the task, role of the agent
  UNIQUE (kind, name, label)
) STRICT""",
    """CREATE TABLE paths (
  id INTEGER PRIMARY KEY,
  parent INTEGER NOT NULL,  -- 0 at the root
  label TEXT NOT NULL,
  UNIQUE (parent, label)
) STRICT""",
    """CREATE TABLE runs (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  created_ns INTEGER NOT NULL,
  attribution TEXT NOT NULL,  -- named | minted | guessed
  epoch INTEGER NOT NULL DEFAULT 0  -- leases of its branches so far
) STRICT""",
    """CREATE TABLE branches (
  id INTEGER PRIMARY KEY,
  run INTEGER NOT NULL REFERENCES runs (id),
  name TEXT NOT NULL,
  parent INTEGER REFERENCES branches (id),
  fork_seq INTEGER,                     -- cursor on the parent, inclusive
  base_seq INTEGER NOT NULL DEFAULT 0,  -- events at or below were compacted
  created_ns INTEGER NOT NULL,
  owner TEXT,                           -- JSON: host, boot, pid, started of the process that has it open
  epoch INTEGER NOT NULL DEFAULT 0,     -- number of its last lease, of all leases of the run; see lease.py
  lease_until_ns INTEGER,               -- set: the owner alone works on it, and does so at least until then
  UNIQUE (run, name)
) STRICT""",
    """CREATE TABLE executions (
  branch INTEGER NOT NULL REFERENCES branches (id),
  path INTEGER NOT NULL REFERENCES paths (id),
  parent INTEGER REFERENCES paths (id),
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  key TEXT NOT NULL,
  inputs_hash TEXT NOT NULL,
  status TEXT NOT NULL,
  started_seq INTEGER NOT NULL,
  ended_seq INTEGER,
  PRIMARY KEY (branch, path)
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE contents (
  id INTEGER PRIMARY KEY,
  hash TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL,  -- text | pieces | json | message
  parent INTEGER,      -- the message before this one
  text INTEGER,        -- the long "content" of a message, left out of its body
  body TEXT NOT NULL
) STRICT""",
    """CREATE TABLE events (
  seq INTEGER PRIMARY KEY,
  branch INTEGER NOT NULL REFERENCES branches (id),
  run INTEGER NOT NULL,
  event_id ANY NOT NULL,  -- a UUID as 16 bytes, any other id as text
  type INTEGER NOT NULL,
  at_ns INTEGER NOT NULL,
  parent ANY,             -- links: the seq, or the raw event id when that event is not in the log
  previous ANY,
  triggered ANY,
  started ANY,
  emission INTEGER,
  task INTEGER,
  agent INTEGER,
  path INTEGER NOT NULL,
  flags INTEGER NOT NULL,
  payload TEXT NOT NULL,
  digest BLOB NOT NULL,
  UNIQUE (run, event_id)
) STRICT""",
    "CREATE INDEX events_by_branch ON events (branch)",
    """CREATE TABLE snapshots (
  id INTEGER PRIMARY KEY,
  branch INTEGER NOT NULL REFERENCES branches (id),
  seq INTEGER NOT NULL,
  kind TEXT NOT NULL,        -- checkpoint | cache
  projection TEXT NOT NULL,
  version INTEGER NOT NULL,  -- fold version; another one is folded anew
  trigger TEXT NOT NULL,     -- event type that asked for it, or 'manual'
  created_ns INTEGER NOT NULL,
  state TEXT NOT NULL,
  UNIQUE (branch, projection, seq, kind)
) STRICT""",
)

_TABLES_2 = (
    """CREATE TABLE bases (
  branch INTEGER PRIMARY KEY REFERENCES branches (id),
  seq INTEGER NOT NULL,       -- the cut: branches.base_seq
  digest BLOB NOT NULL,       -- of the event at the cut: what follows chains to it
  state TEXT NOT NULL,        -- the state at the cut, whatever the fold's version was
  projections TEXT NOT NULL,  -- {name: {version, state}} of the user's
  spent TEXT NOT NULL,        -- model calls whose events are gone, for the sums of tokens
  keeps_tape INTEGER NOT NULL,
  events INTEGER NOT NULL,    -- of the lineage that are not here any more
  created_ns INTEGER NOT NULL,
  proof BLOB NOT NULL         -- of this row and of what is retained below it
) STRICT""",
    """CREATE TABLE retained (
  branch INTEGER NOT NULL REFERENCES branches (id),  -- whose base needs it
  seq INTEGER NOT NULL,      -- an event at or below the base, on the branch or an ancestor
  previous BLOB NOT NULL,    -- the digest it chains to: the event before it may be gone
  PRIMARY KEY (branch, seq)
) STRICT, WITHOUT ROWID""",
    "CREATE INDEX retained_by_seq ON retained (seq)",
    """CREATE TABLE tombstones (
  what TEXT NOT NULL,        -- event | content
  id ANY NOT NULL,           -- seq | hash
  at_ns INTEGER NOT NULL,
  proof BLOB NOT NULL,       -- of the row as it is now
  PRIMARY KEY (what, id)
) STRICT, WITHOUT ROWID""",
    "ALTER TABLE snapshots ADD COLUMN proof BLOB",  # of the state, after the event at its seq
)

_GUARD = "(SELECT value FROM meta WHERE key = 'compacting') IS NOT 1"
"""Set inside the transactions of compaction and of forgetting, never committed."""

_TRIGGERS = (
    f"""CREATE TRIGGER events_never_change BEFORE UPDATE ON events
WHEN {_GUARD}
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END""",
    f"""CREATE TRIGGER events_never_vanish BEFORE DELETE ON events
WHEN {_GUARD}
BEGIN SELECT RAISE(ABORT, 'events are append-only; use eventlog compact'); END""",
    """CREATE TRIGGER events_seq_is_never_reused AFTER DELETE ON events
BEGIN UPDATE meta SET value = max(value, OLD.seq) WHERE key = 'last_seq'; END""",
    """CREATE TRIGGER events_are_never_replaced BEFORE INSERT ON events
WHEN EXISTS (SELECT 1 FROM events WHERE seq = NEW.seq)
  OR EXISTS (SELECT 1 FROM events WHERE run = NEW.run AND event_id = NEW.event_id)
BEGIN SELECT RAISE(ABORT, 'event exists'); END""",
    f"""CREATE TRIGGER contents_never_change BEFORE UPDATE ON contents
WHEN {_GUARD}
BEGIN SELECT RAISE(ABORT, 'contents are immutable'); END""",
    f"""CREATE TRIGGER contents_never_vanish BEFORE DELETE ON contents
WHEN {_GUARD}
BEGIN SELECT RAISE(ABORT, 'contents are immutable; use eventlog compact'); END""",
)

_UNPROVEN = ("DELETE FROM snapshots WHERE kind = 'cache'", "UPDATE snapshots SET state = '' WHERE state <> ''")
"""States of format 1 have no proof: they are folded anew when they are asked for."""
_FIRST_ROWS = (
    checkpoints.NAMES,
    "INSERT INTO meta VALUES ('last_seq', 0), ('compacting', 0), ('salt', hex(randomblob(16)))",
    "INSERT INTO runs (id, name, created_ns, attribution) VALUES (0, '', 0, 'named')",
    "INSERT INTO branches (id, run, name, created_ns) VALUES (0, 0, 'main', 0)",
)
_VIEWS = (EVENT_JSON, *checkpoints.VIEWS, *checkpoints.VIEW_TRIGGERS)
"""What a sealed log has not: there is nothing in it that SQL could show."""
_READ_LOCK, _PUT_LOCK = "SELECT value FROM meta WHERE key = 'cipher'", "INSERT INTO meta VALUES ('cipher', ?)"
_META = "table meta"


def _derived_objects(*, sealed: bool) -> tuple[str, ...]:
    """Return the statements that make views and triggers."""
    return (*((checkpoints.NAME_TAKEN,) if sealed else _VIEWS), *_TRIGGERS, *checkpoints.TRIGGERS)


def migrate(connection: sqlite3.Connection, lock: str = "") -> None:
    """Bring the file behind ``connection`` to ``FORMAT``; the caller holds the write lock and commits.

    ``lock``: how a new file is sealed (``seal.py``); one that has tables stays what it is.
    sqlite-utils keeps the record of what was applied in the same transaction.
    """
    from sqlite_utils import Database  # noqa: PLC0415 - only files that need work pay for the import
    from sqlite_utils.migrations import Migrations  # noqa: PLC0415

    migrations = Migrations("eventlog")

    @migrations(name="1_first_format")
    def _first_format(db: Any) -> None:
        for statement in (*_TABLES_1, *checkpoints.TABLES, *_FIRST_ROWS):
            db.conn.execute(statement)
        if lock:
            db.conn.execute(_PUT_LOCK, (lock,))

    @migrations(name="2_compaction")
    def _compaction(db: Any) -> None:
        for statement in _TABLES_2:
            db.conn.execute(statement)
        for statement in _UNPROVEN:
            db.conn.execute(statement)
        _renew_views_and_triggers(db.conn)

    migrations.apply(Database(connection, execute_plugins=False))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def _renew_views_and_triggers(db: sqlite3.Connection) -> None:
    """Make the views and triggers of this version; they hold no data."""
    sql = "SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view') OR name = 'checkpoints'"
    rows = db.execute(sql).fetchall()
    for kind, name in sorted(rows):  # triggers first: some belong to a view
        db.execute(f'DROP {kind} "{name}"')
    for statement in _derived_objects(sealed=bool(read_lock(db, stored_objects(db)))):
        db.execute(statement)


FORMER_OBJECTS = {1: "e16cef35322e25777e13961f6dbdec5c"}
"""Format → digest of ``stored_objects`` of its files: an older file is ours, too, if it is exactly this."""


@cache
def expected_objects(*, sealed: bool = False) -> dict[str, str]:
    """Return name → SQL of every table, index, trigger and view of a file of ours."""
    db = sqlite3.connect(":memory:")
    try:
        for statement in (*_TABLES_1, *checkpoints.TABLES, *_TABLES_2, *_derived_objects(sealed=sealed)):
            db.execute(statement)
        return stored_objects(db)
    finally:
        db.close()


def stored_objects(connection: sqlite3.Connection) -> dict[str, str]:
    """Return name → SQL of what a file has; SQLite's and sqlite-utils' own tables left out.

    By their full names: whoever writes the schema by hand can call a trigger ``sqlite_`` as well, and it works.
    """
    rows = connection.execute(
        "SELECT type || ' ' || name, sql FROM sqlite_master WHERE sql IS NOT NULL"
        " AND NOT (type = 'table' AND name IN ('sqlite_sequence', 'sqlite_stat1', 'sqlite_stat3', 'sqlite_stat4'))"
        " AND NOT (tbl_name = '_sqlite_migrations' AND type IN ('table', 'index'))"
    )
    return dict(rows)


def read_lock(connection: sqlite3.Connection, objects: dict[str, str]) -> str:
    """Return how the file is sealed; empty for a plain one, and where ``meta`` is not the table we make."""
    if objects.get(_META) != expected_objects()[_META]:
        return ""
    row = connection.execute(_READ_LOCK).fetchone()
    return "" if row is None else str(row[0])


def objects_digest(objects: dict[str, str]) -> str:
    """Return what tells the objects of one format from those of another."""
    text = "\n".join(f"{name}\t{sql}" for name, sql in sorted(objects.items()))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def stand_ins(connection: sqlite3.Connection) -> None:
    """Give a reading connection on an older file what it has not, empty; the file stays as it is."""
    connection.execute("PRAGMA temp_store = MEMORY")
    for statement in _TABLES_2:
        if statement.startswith("CREATE TABLE"):
            connection.execute(
                statement.replace("CREATE TABLE", "CREATE TEMP TABLE").replace(" REFERENCES branches (id)", "")
            )
    connection.execute("CREATE TEMP VIEW snapshots AS SELECT *, NULL AS proof FROM main.snapshots")
