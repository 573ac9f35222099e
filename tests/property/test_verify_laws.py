"""Laws of ``eventlog verify``: what was changed is found, wherever; what nobody touched is sound."""

from __future__ import annotations

import sqlite3
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eventlog.verifying.verify import verify_log
from tests.damage import copy_of, editing, grown_log
from tests.property.test_compact_laws import grow
from tests.property.test_snapshot_laws import EXAMPLES, new_log
from tests.verifying import unexpected

COVERED = {
    "events": (
        "rowid",
        (
            "branch run event_id type at_ns parent previous triggered started emission task agent path flags payload"
            " digest"
        ),
    ),
    "contents": ("rowid", "hash kind parent text body"),
    "bases": ("branch", "seq digest state projections spent keeps_tape events created_ns proof"),
    "retained": ("branch, seq", "branch seq previous"),
    "tombstones": ("what, id", "what id proof"),
    "branches": ("id", "run parent fork_seq base_seq"),
}
"""Table → its key, and the columns of which every bit counts.

Not the time of a tombstone, which nothing proves; not the names of runs and branches, which no digest covers.
"""


@cache
def original() -> Path:
    """Return a log with something of everything."""
    return grown_log(Path(tempfile.mkdtemp(prefix="eventlog-tests-")) / "log.db")


@cache
def keys_of(table: str) -> list[tuple[Any, ...]]:
    """Return the keys of the rows of a table."""
    with editing(copy_of(original(), original().with_name("keys.db"))) as db:
        rows = db.execute(f"SELECT {COVERED[table][0]} FROM {table} ORDER BY 1").fetchall()
    return [row for row in rows if (table, row) != ("branches", (0,))]


def flipped(value: Any, data: st.DataObject) -> Any:
    """Return a stored value with one bit changed."""
    if isinstance(value, int):
        return value ^ (1 << data.draw(st.integers(0, 40), label="bit"))
    raw = bytearray(value if isinstance(value, bytes) else value.encode())
    bit = data.draw(st.integers(0, len(raw) * 8 - 1), label="bit")
    raw[bit // 8] ^= 1 << (bit % 8)
    return bytes(raw)


@settings(max_examples=120)
@given(st.sampled_from(sorted(COVERED)), st.data())
def test_a_changed_bit_is_found(table: str, data: st.DataObject) -> None:
    """In any row and column that digests, hashes and proofs answer for; the file is whole for SQLite.

    Seen to fail: without the comparison of ``run`` with that of the branch, and of ``keeps_tape`` with yes and no.
    """
    keys, columns = COVERED[table]
    key = data.draw(st.sampled_from(keys_of(table)), label="row")
    column = data.draw(st.sampled_from(columns.split()), label="column")
    where = " AND ".join(f"{name} IS ?" for name in keys.split(", "))
    path = copy_of(original(), original().with_name("flipped.db"))
    with editing(path) as db:
        (value,) = db.execute(f"SELECT {column} FROM {table} WHERE {where}", key).fetchone()
        assume(value is not None and value != "")
        new = flipped(value, data)
        cast = "CAST(? AS TEXT)" if isinstance(value, str) else "?"
        try:
            db.execute(f"UPDATE {table} SET {column} = {cast} WHERE {where}", (new, *key))
        except sqlite3.IntegrityError:  # two rows would be the same
            assume(False)

    assert not verify_log(path).ok


@settings(max_examples=25)
@given(st.sampled_from(["events", "contents", "bases", "retained"]), st.data())
def test_a_row_that_was_taken_away_is_found(table: str, data: st.DataObject) -> None:
    """Unless it is the very last event: that is a cut tail."""
    keys = keys_of(table)
    key = data.draw(st.sampled_from(keys[:-1] if table == "events" else keys), label="row")
    where = " AND ".join(f"{name} IS ?" for name in COVERED[table][0].split(", "))
    path = copy_of(original(), original().with_name("less.db"))
    with editing(path) as db:
        db.execute(f"DELETE FROM {table} WHERE {where}", key)

    assert not verify_log(path).ok


@EXAMPLES
@given(st.data())
def test_a_log_that_nobody_touched_is_sound(data: st.DataObject) -> None:
    """Whatever the history, its forks and checkpoints; compacted, too, and then grown on. Old heads stay good."""
    with new_log(5, 4) as log:
        grow(log, data)
        head = log.verify().head
        assert list(unexpected(log.path)) == []
        log.compact(data.draw(st.integers(0, 3)))
        grow(log, data)

        assert list(unexpected(log.path, head)) == []
