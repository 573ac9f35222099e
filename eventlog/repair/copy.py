"""Write what was saved into a new log: rows as they were, with their own seqs and digests.

Where a row no longer follows from the one before it, because that one is lost, a tombstone says so: the digests of all
other events stay what they were, and a head kept elsewhere still finds its events.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from eventlog.append import INSERT_EVENT
from eventlog.bases import PUT, as_base, base_proof, read_retained
from eventlog.chain import DIGEST_BYTES, Chain
from eventlog.chain_key import META, store_check
from eventlog.digests import COLUMNS, Interned, Row, digest_after, facts_of, tombstone_of
from eventlog.errors import EventFormatError
from eventlog.repair.links import Links
from eventlog.repair.work import Work
from eventlog.seal import EVENT, CipherKey
from eventlog.storage import ARCHIVE_OF, open_writer
from eventlog.transactions import transaction
from eventlog.verifying.events import GAP

PAGE_ROWS = 1000
OWN_META = ("compacting", "last_seq", "unswept", META)

_KEPT = (
    f"SELECT {COLUMNS} FROM events WHERE verdict IN ('proven', 'changed', 'unproven') AND seq > ? ORDER BY seq"
    f" LIMIT {PAGE_ROWS}"
)
_MARKERS = "SELECT seq, branch, payload FROM markers ORDER BY seq"
_LAST = "SELECT digest FROM events WHERE branch = ? AND seq > ? AND seq <= ? ORDER BY seq DESC LIMIT 1"
_CONTENTS = (
    "SELECT c.id, c.hash, c.kind, c.parent, c.text, c.body, c.verdict FROM contents AS c"
    " WHERE c.hash IN (SELECT hash FROM wanted) AND c.verdict IN ('good', 'changed', 'lost') AND c.id > ?"
    f" ORDER BY c.id LIMIT {PAGE_ROWS // 10}"
)
_BEGINS = "SELECT parent, fork_seq, base_seq FROM branches WHERE id = ?"
_THERE = (
    "SELECT max(seq) FROM (SELECT seq FROM events WHERE branch = ?1 AND verdict IN ('proven', 'changed', 'unproven')"
    " UNION ALL SELECT seq FROM markers WHERE branch = ?1) WHERE seq > ?2 AND seq <= ?3"
)
_IS_PROVEN_BY_BASE = (
    "SELECT 1 FROM retained AS k JOIN bases AS b ON b.branch = k.branch WHERE k.seq = ? AND b.verdict = 'good'"
)
_PUT_BRANCH = (
    "INSERT INTO branches (id, run, name, parent, fork_seq, base_seq, created_ns, epoch) VALUES (?,?,?,?,?,?,?,?)"
)
_TOP = (
    "SELECT max(coalesce((SELECT max(seq) FROM known_events), 0), coalesce((SELECT max(seq) FROM bases), 0),"
    " coalesce((SELECT max(seq) FROM events), 0),"
    " coalesce((SELECT value FROM meta WHERE key = 'last_seq' AND typeof(value) = 'integer'), 0))"
)
_EXECUTIONS = (
    "SELECT branch, path, parent, kind, name, key, inputs_hash,"
    " iif(ended_seq IN (SELECT seq FROM lost UNION SELECT seq FROM markers), 'running', status), started_seq,"
    " iif(ended_seq IN (SELECT seq FROM lost UNION SELECT seq FROM markers), NULL, ended_seq) FROM executions"
)
"""A kickoff whose end is lost goes on."""
_NEIGHBOUR = "SELECT at_ns FROM events WHERE branch = ? AND seq {} ? AND at_ns IS NOT NULL ORDER BY seq {} LIMIT 1"


def copy_to(part: Path, links: Links, key: CipherKey, now_ns: int, on_event: Callable[[], None]) -> None:
    """Fill the file at ``part``, which is empty, with everything that is kept; sealed with the same key and lock.

    Raises:
        LogOpenError: it cannot be written.
    """
    is_archive = links.work.one("SELECT 1 FROM meta WHERE key = ?", ARCHIVE_OF) is not None
    db = open_writer(part, key=key, like=links.seal, archive=is_archive, chain=links.chain)
    try:
        with transaction(db):
            _copy_frame(db, links)
        _copy_contents(db, links, now_ns)
        _EventCopy(db, links, now_ns).run(on_event)
        with transaction(db):
            _copy_rest(db, links)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        db.close()


def _rows(work: Work, sql: str) -> list[Any]:
    """Return rows of the work file."""
    return work.db.execute(sql).fetchall()


def _copy_frame(db: sqlite3.Connection, links: Links) -> None:
    """Copy what events hang on: names, paths, runs, branches, and the facts about the log."""
    work = links.work
    db.executemany("INSERT OR IGNORE INTO names VALUES (?,?,?,?)", _rows(work, "SELECT * FROM names"))
    db.executemany("INSERT OR IGNORE INTO paths VALUES (?,?,?)", _rows(work, "SELECT * FROM paths"))
    for row, name, *rest in _rows(work, "SELECT * FROM runs WHERE id > 0 ORDER BY id"):
        taken = db.execute("SELECT 1 FROM runs WHERE name = ?", (name,)).fetchone() is not None
        db.execute("INSERT INTO runs VALUES (?,?,?,?,?)", (row, f"{name}-{row}" if taken else name, *rest))
    _copy_branches(db, work)
    for key, value in _rows(work, "SELECT key, value FROM meta"):
        if key not in OWN_META and key is not None:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
    if links.chain.is_keyed:
        db.execute("DELETE FROM meta WHERE key = ?", (META,))
        store_check(db, links.chain)


def _copy_branches(db: sqlite3.Connection, work: Work) -> None:
    """Copy branches; nobody has one open, and each begins at an event that is there."""
    sql = "SELECT id, run, name, parent, fork_seq, base_seq, created_ns, epoch FROM branches WHERE id > 0 ORDER BY id"
    for row, run, name, parent, fork, base, created, epoch in _rows(work, sql):
        taken = db.execute("SELECT 1 FROM branches WHERE run = ? AND name = ?", (run, name)).fetchone() is not None
        begins = None if parent is None else fork if base else new_fork(work, parent, fork or 0)
        facts = (run, f"{name}-{row}" if taken else name, parent, begins, base, created or 0, epoch or 0)
        db.execute(_PUT_BRANCH, (row, *facts))


def new_fork(work: Work, parent: int, fork: int) -> int:
    """Return the last event of a lineage at or before a seq that is there, or the base before it; 0 for none."""
    current: int | None = parent
    cut = fork
    while current is not None:
        above, begins, base = work.db.execute(_BEGINS, (current,)).fetchone()
        seq = work.one(_THERE, current, base, cut)
        if seq is not None:
            return int(seq)
        if base:
            return int(base) if base <= cut else 0  # compacted beyond: nothing of what the branch began with is left
        cut = min(cut, begins or 0)
        current = above if begins else None
    return 0


def _copy_contents(db: sqlite3.Connection, links: Links, now_ns: int) -> None:
    """Copy large values that are wanted, and what stands in for those that are lost."""
    after = 0
    while rows := links.work.db.execute(_CONTENTS, (after,)).fetchall():
        after = rows[-1][0]
        with transaction(db):
            db.executemany("INSERT OR IGNORE INTO contents VALUES (?,?,?,?,?,?)", [row[:6] for row in rows])
            for _, name, kind, _, _, body, verdict in rows:
                if verdict != "good":
                    proof = links.chain.proof("tombstone", "content", name, kind, body)
                    _put_tombstone(db, links.work, ("content", name), now_ns, proof)


def _put_tombstone(db: sqlite3.Connection, work: Work, row: tuple[str, Any], now_ns: int, proof: bytes) -> None:
    """Say that a row differs from its digest or hash on purpose, since when it first did."""
    since = work.one("SELECT at_ns FROM tombstones WHERE what = ? AND id = ?", *row)
    db.execute("INSERT OR IGNORE INTO tombstones VALUES (?, ?, ?, ?)", (*row, since or now_ns, proof))


class _EventCopy:
    """Copies events in order, with the markers between them."""

    def __init__(self, db: sqlite3.Connection, links: Links, now_ns: int) -> None:
        """``db``: the new log."""
        self._db, self._work, self._now_ns = db, links.work, now_ns
        self._chain: Chain = links.chain
        self._seal = links.seal
        self._interned = Interned(db)
        self._heads: dict[int, bytes] = {}
        self._begins = {row: (run, base) for row, run, base in db.execute("SELECT id, run, base_seq FROM branches")}
        self._gap_type = self._type_of_gaps()

    def _type_of_gaps(self) -> int:
        """Return the row of the name of markers."""
        key = ("type", GAP, "")
        self._db.execute("INSERT OR IGNORE INTO names (kind, name, label) VALUES (?, ?, ?)", key)
        return int(self._db.execute("SELECT id FROM names WHERE kind = ? AND name = ?", key[:2]).fetchone()[0])

    def run(self, on_event: Callable[[], None]) -> None:
        """Copy everything."""
        markers = iter(self._work.db.execute(_MARKERS).fetchall())
        marker = next(markers, None)
        for page in self._pages():
            with transaction(self._db):
                for row in page:
                    while marker is not None and marker[0] < row.seq:
                        self._put_marker(*marker)
                        marker = next(markers, None)
                    self._put(row)
                    on_event()
        with transaction(self._db):
            while marker is not None:
                self._put_marker(*marker)
                marker = next(markers, None)

    def _pages(self) -> Iterator[list[Row]]:
        """Yield the events that are kept."""
        after = 0
        while rows := self._work.db.execute(_KEPT, (after,)).fetchall():
            yield list(map(Row._make, rows))
            after = rows[-1][0]

    def _put(self, row: Row) -> None:
        """Write an event; one that does not follow from what is before it now gets a tombstone."""
        row = row._replace(run=self._begins[row.branch][0])  # no digest covers it
        facts = facts_of(row, self._interned)
        if digest_after(self._chain, self._previous(row.branch, row.seq), row, facts) != row.digest:
            self._bury(row, facts)
        self._insert(row)

    def _put_marker(self, seq: int, branch: int, payload: str) -> None:
        """Write the event that stands for lost ones; a damaged one's digest stays if others vouch for it."""
        run, base = self._begins[branch]
        links = (None, None, None, None, None, None, None)
        payload = self._seal.seal_text(payload, EVENT, seq)
        row = Row(seq, branch, run, uuid4().bytes, self._gap_type, self._time(branch, seq), *links, 0, 0, payload, b"")
        known = self._vouched(seq, is_retained=seq <= base)
        facts = facts_of(row._replace(digest=bytes(DIGEST_BYTES)), self._interned)
        row = row._replace(digest=known or digest_after(self._chain, self._previous(branch, seq), row, facts))
        if known:
            self._bury(row, facts)
        self._insert(row)

    def _vouched(self, seq: int, *, is_retained: bool) -> bytes | None:
        """Return the digest of a damaged event if the next one, or the proof of a base, is made with it."""
        found = self._work.db.execute("SELECT digest, confirmed FROM events WHERE seq = ?", (seq,)).fetchone()
        if found is None or type(found[0]) is not bytes or len(found[0]) != DIGEST_BYTES:
            return None
        if is_retained:
            return found[0] if self._work.one(_IS_PROVEN_BY_BASE, seq) else None
        return found[0] if found[1] else None

    def _previous(self, branch: int, seq: int) -> bytes:
        """Return the digest that an event chains to in the new log."""
        if seq <= self._begins[branch][1]:
            return self._work.one("SELECT previous FROM retained WHERE seq = ? ORDER BY previous DESC", seq) or b""
        known = self._heads.get(branch)
        return self._anchor(branch) if known is None else known

    def _anchor(self, branch: int) -> bytes:
        """Return the digest before the first event of a branch."""
        cut, current = 2**62, branch
        while True:
            found = self._db.execute(
                "SELECT parent, fork_seq, base_seq FROM branches WHERE id = ?", (current,)
            ).fetchone()
            parent, fork, base = found
            row = self._db.execute(_LAST, (current, base, cut)).fetchone() if current != branch else None
            if row is not None:
                return bytes(row[0])
            if base:
                return bytes(self._work.one("SELECT digest FROM bases WHERE branch = ?", current))
            if parent is None or not fork:
                return b""
            cut, current = min(cut, fork), parent

    def _time(self, branch: int, seq: int) -> int:
        """Return the time of the nearest event of the branch."""
        before = self._work.one(_NEIGHBOUR.format("<", "DESC"), branch, seq)
        return int(before or self._work.one(_NEIGHBOUR.format(">", "ASC"), branch, seq) or 0)

    def _bury(self, row: Row, facts: tuple[Any, ...]) -> None:
        """Say that a row differs from its digest and is meant to."""
        _put_tombstone(self._db, self._work, ("event", row.seq), self._now_ns, tombstone_of(self._chain, row, facts))

    def _insert(self, row: Row) -> None:
        """Write a row."""
        self._db.execute(INSERT_EVENT, tuple(row))
        if row.seq > self._begins[row.branch][1]:
            self._heads[row.branch] = row.digest


def _copy_rest(db: sqlite3.Connection, links: Links) -> None:
    """Copy what stands on events: bases, the index of executions, checkpoints; and the last seq."""
    work = links.work
    for row in _rows(work, "SELECT * FROM bases"):
        base = as_base(row[:10])
        kept = "SELECT branch, seq, previous FROM retained WHERE branch = ? AND seq <= ?"
        for found in work.db.execute(kept, (base.branch, base.seq)).fetchall():
            if db.execute("SELECT 1 FROM events WHERE seq = ?", found[1:2]).fetchone():
                db.execute("INSERT INTO retained VALUES (?, ?, ?)", found)
        base.proof = base_proof(links.chain, base, read_retained(db, base))
        db.execute(PUT, base.row())
    _copy_executions(db, work)
    _copy_checkpoints(db, work)
    db.execute("UPDATE meta SET value = ? WHERE key = 'last_seq'", (work.one(_TOP),))


def _copy_executions(db: sqlite3.Connection, work: Work) -> None:
    """Copy the index of executions, where its branches and paths are there."""
    interned = Interned(db)
    branches = {row for (row,) in db.execute("SELECT id FROM branches")}
    for row in _rows(work, _EXECUTIONS):
        try:
            interned.path(row[1])
            interned.path(row[2] if row[2] is not None else 0)
            if row[0] in branches:
                db.execute(f"INSERT OR IGNORE INTO executions VALUES ({','.join('?' * len(row))})", row)
        except (EventFormatError, sqlite3.IntegrityError):
            continue


def _copy_checkpoints(db: sqlite3.Connection, work: Work) -> None:
    """Copy checkpoints as marks: their states are folded anew when they are asked for."""
    sql = (
        "SELECT branch, seq, kind, projection, version, trigger, created_ns, '' FROM snapshots"
        " WHERE kind = 'checkpoint' AND projection = 'run' AND version IS NOT NULL AND trigger IS NOT NULL ORDER BY id"
    )
    put = "INSERT OR IGNORE INTO snapshots (branch, seq, kind, projection, version, trigger, created_ns, state)"
    for row in _rows(work, sql):
        place = db.execute("SELECT base_seq FROM branches WHERE id = ?", row[:1]).fetchone()
        there = db.execute("SELECT 1 FROM events WHERE seq = ?", row[1:2]).fetchone()
        if place is not None and there is not None and row[1] >= place[0]:
            db.execute(f"{put} VALUES (?,?,?,?,?,?,?,?)", row)
    marks = _rows(work, "SELECT * FROM checkpoint_marks WHERE name IS NOT NULL AND created_at IS NOT NULL")
    if marks:
        _hide_others(db, {row[1] for row in marks})
    own = [row for row in marks if row[8] is not None]
    db.executemany("INSERT OR IGNORE INTO checkpoint_marks VALUES (NULL,?,?,?,?,?,?,?,?)", [row[1:] for row in own])


def _hide_others(db: sqlite3.Connection, names: set[str]) -> None:
    """Take away the marks of checkpoints that somebody had hidden."""
    for row, name in db.execute("SELECT id, name FROM checkpoint_marks").fetchall():
        if name not in names:
            db.execute("DELETE FROM checkpoint_marks WHERE id = ?", (row,))
