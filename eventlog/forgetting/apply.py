"""Rewrite the rows that hold a value, in the transaction under way."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from itertools import chain, count
from typing import Any

from eventlog.append import Appender
from eventlog.bases import PUT, Base, base_proof, read_retained
from eventlog.chain import Chain
from eventlog.errors import ForgetError
from eventlog.forgetting.changes import Changes
from eventlog.forgetting.stale import COLUMNS
from eventlog.forgetting.tombs import bury_contents, bury_events
from eventlog.record import FLAG_REDACTED
from eventlog.seal import PATH, Seal

_FLAG = f"UPDATE events SET flags = flags | {FLAG_REDACTED} WHERE seq = ?"
_MARK = "UPDATE checkpoint_marks SET data = ? WHERE id = ?"
_LABEL = "SELECT 1 FROM paths WHERE parent = ? AND label = ?"
_EXECUTION = "UPDATE executions SET name = ?, key = ? WHERE branch = ? AND path = ?"


def apply_changes(appender: Appender, changes: Changes, at_ns: int) -> None:
    """Write everything, and a tombstone for each row that differs from its digest then.

    Raises:
        ForgetError: it stands where it would have to be unique without it. Nothing may be committed then.
    """
    db, proofs = appender.db, appender.chain
    _write_names(db, changes)
    _write_paths(db, appender.seal, changes)
    for seq, columns in changes.events.items():
        _write_event(db, seq, columns)
    db.executemany(_FLAG, [(seq,) for seq in changes.touched])
    for row, (_, kind, body, _) in changes.contents.items():
        db.execute("UPDATE contents SET kind = ?, body = ? WHERE id = ?", (kind, body, row))
    db.executemany(_EXECUTION, changes.executions)
    db.executemany(_MARK, [(data, row) for row, data in changes.marks.items()])
    bury_contents(db, proofs, (row for row, (*_, fits) in changes.contents.items() if not fits), at_ns)
    bury_events(db, proofs, changes.touched, at_ns)
    _write_bases(db, proofs, changes.bases)
    drop_states(db, changes.snapshots)


def _write_names(db: sqlite3.Connection, changes: Changes) -> None:
    """Change names; one that is there already takes the place of the other."""
    for row, key in changes.names.items():
        same = db.execute("SELECT id FROM names WHERE kind = ? AND name = ? AND label = ?", key).fetchone()
        if same is None:
            db.execute("UPDATE names SET name = ?, label = ? WHERE id = ?", (*key[1:], row))
            continue
        column = COLUMNS[key[0]]
        db.execute(f"UPDATE events SET {column} = ? WHERE {column} = ?", (same[0], row))
        db.execute("DELETE FROM names WHERE id = ?", (row,))


def _write_paths(db: sqlite3.Connection, seal: Seal, changes: Changes) -> None:
    """Change labels; two of the same parent stay two, and keep their ordinals."""
    for row, (parent, stored, label) in changes.paths.items():
        name, mark, ordinal = label.rpartition("#")
        others = (seal.seal_name(f"{name}~{number}{mark}{ordinal}", PATH) for number in count(2))
        free = (one for one in chain([stored], others) if db.execute(_LABEL, (parent, one)).fetchone() is None)
        db.execute("UPDATE paths SET label = ? WHERE id = ?", (next(free), row))


def _write_event(db: sqlite3.Connection, seq: int, columns: dict[str, Any]) -> None:
    """Change some columns of an event."""
    assignments = ", ".join(f"{name} = ?" for name in columns)
    try:
        db.execute(f"UPDATE events SET {assignments} WHERE seq = ?", (*columns.values(), seq))
    except sqlite3.IntegrityError:
        raise ForgetError(f"the id of event {seq} would be that of another event of its run") from None


def _write_bases(db: sqlite3.Connection, proofs: Chain, bases: Iterable[Base]) -> None:
    """Put changed bases in their place, each with a new proof."""
    for base in bases:
        base.proof = base_proof(proofs, base, read_retained(db, base))
        db.execute(PUT, base.row())


def drop_states(db: sqlite3.Connection, rows: Iterable[int]) -> None:
    """Drop stored states: a checkpoint stays a mark, from which its state is folded anew."""
    chosen = [(row,) for row in sorted(rows)]
    db.executemany("DELETE FROM snapshots WHERE id = ? AND kind = 'cache'", chosen)
    db.executemany("UPDATE snapshots SET state = '' WHERE id = ?", chosen)
