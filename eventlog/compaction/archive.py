"""Move compacted events to another file: a log of its own, with the same seqs, ids and digests.

What goes there is on the disk before anything is deleted here. An archive grows with every compaction it is given
to; it takes only events of the log it was made for, and nobody appends to it: the seqs that follow are its log's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eventlog.append import INSERT_CONTENT, INSERT_EVENT, Appender
from eventlog.bases import PUT, Base, unsealed_base
from eventlog.compaction.marking import Marking
from eventlog.compaction.plan import BranchPlan
from eventlog.errors import LogUnwritableError
from eventlog.read import Reader
from eventlog.seal import EVENT
from eventlog.storage import ARCHIVE_OF, open_writer
from eventlog.transactions import transaction, translated

PAGE_ROWS = 500

_OWN_META = ("last_seq", "compacting", "collections", "unswept", ARCHIVE_OF)
_IS_BLANK = (
    "SELECT NOT EXISTS (SELECT 1 FROM runs WHERE id > 0) AND NOT EXISTS (SELECT 1 FROM events)"
    " AND NOT EXISTS (SELECT 1 FROM meta WHERE key = ?)"
)
_RUN = "SELECT r.* FROM runs AS r JOIN branches AS b ON b.run = r.id WHERE b.id = ?"
_BRANCH = "SELECT id, run, name, parent, fork_seq, created_ns FROM branches WHERE id = ?"
_PUT_RUN = "INSERT OR IGNORE INTO runs (id, name, created_ns, attribution, epoch) VALUES (?,?,?,?,?)"
_PUT_BRANCH = "INSERT OR IGNORE INTO branches (id, run, name, parent, fork_seq, created_ns) VALUES (?,?,?,?,?,?)"
_EXECUTIONS = (
    "SELECT branch, path, parent, kind, name, key, inputs_hash, status, started_seq, ended_seq FROM executions"
    " WHERE branch = ? AND started_seq <= ?"
)
_PUT_EXECUTION = "INSERT OR REPLACE INTO executions VALUES (?,?,?,?,?,?,?,?,?,?)"
_EVENTS = (
    "SELECT seq, branch, run, event_id, type, at_ns, parent, previous, triggered, started, emission, task, agent,"
    " path, flags, payload, digest FROM {source} WHERE {where} ORDER BY seq LIMIT ?"
)
_KEPT = "(SELECT e.* FROM retained AS k JOIN events AS e ON e.seq = k.seq WHERE k.branch = ? AND k.seq <= ?)"
_CONTENTS = (
    "SELECT c.hash, c.kind, up.hash, text.hash, c.body FROM contents AS c LEFT JOIN contents AS up ON up.id = c.parent"
    " LEFT JOIN contents AS text ON text.id = c.text WHERE c.id IN ({marks}) ORDER BY c.id"
)
_NAME = "SELECT kind, name, label FROM names WHERE id = ?"
_PATH = "SELECT parent, label FROM paths WHERE id = ?"


class Archive:
    """The file that takes what is compacted."""

    def __init__(self, path: Path, source: Reader) -> None:
        """Open or make it; it is sealed as its source is, with the same key.

        Raises:
            LogOpenError: it cannot be written, or is no archive of this log; it is unchanged then.
        """
        self.path, self._source = path, source
        self._db = open_writer(path, "FULL", source.key, source.seal, archive=True)
        self._to = Appender(self._db)
        self._marking = Marking(source.seal)
        self._names: dict[int, int] = {}
        self._paths: dict[int, int] = {0: 0}
        try:
            self._claim()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Put everything into the one file and close it."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._db.close()

    def take(self, plan: BranchPlan) -> None:
        """Copy what a branch reads up to its cut, on the disk when this returns. Twice is once.

        Raises:
            LogOpenError: it could not be written.
        """
        with translated(self.path):
            for owner, _, high in self._source.ancestry(plan.row, plan.cut):
                self._take_branch(owner, high)
            base = self._source.stored_base(plan.row)
            if base is not None and self._has_nothing(base.branch):
                self._take_base(base)
            for owner, low, high in self._source.lineage(plan.row, plan.cut):
                self._take_events(owner, low, high)

    def _claim(self) -> None:
        """Make a new file an archive of the source, or one that was killed before it was; refuse another one."""
        facts = dict(self._source.query("SELECT key, value FROM meta"))
        with transaction(self._db):
            if self._db.execute(_IS_BLANK, (ARCHIVE_OF,)).fetchone()[0]:
                self._db.execute("INSERT INTO meta VALUES (?, ?)", (ARCHIVE_OF, facts["salt"]))
                for key, value in facts.items():
                    if key not in _OWN_META:
                        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
                return
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (ARCHIVE_OF,)).fetchone()
        if row is None or row[0] != facts["salt"]:
            raise LogUnwritableError(str(self.path), "it is not an archive of this log: give another file")

    def _take_branch(self, branch: int, cut: int) -> None:
        """Copy the rows of a branch, its run and its executions as they stood at the cut."""
        with transaction(self._db):
            for sql, put in ((_RUN, _PUT_RUN), (_BRANCH, _PUT_BRANCH)):
                self._db.executemany(put, self._source.query(sql, (branch,)))
            for row in self._source.query(_EXECUTIONS, (branch, cut)):
                owner, path, parent, kind, name, key, inputs, status, started, ended = row
                status, ended = ("running", None) if ended is not None and ended > cut else (status, ended)
                place = (owner, self._path(path), self._path(parent) if parent else None)
                self._db.execute(_PUT_EXECUTION, (*place, kind, name, key, inputs, status, started, ended))

    def _has_nothing(self, branch: int) -> bool:
        """Whether no event of a branch was archived yet: then it begins at the base it has."""
        return self._db.execute("SELECT 1 FROM events WHERE branch = ? LIMIT 1", (branch,)).fetchone() is None

    def _take_base(self, base: Base) -> None:
        """Copy the base of a branch that was compacted before without an archive."""
        rows = self._source.query("SELECT branch, seq, previous FROM retained WHERE branch = ? AND seq <= ?",
                                  (base.branch, base.seq))  # fmt: skip
        source = _EVENTS.format(source=_KEPT, where="seq > ?")
        for page in self._pages(source, (base.branch, base.seq)):
            self._put_events(page)
        with transaction(self._db):
            self._db.executemany("INSERT OR REPLACE INTO retained VALUES (?, ?, ?)", rows)
            self._db.execute(PUT, base.row())
            self._db.execute("UPDATE branches SET base_seq = ? WHERE id = ?", (base.seq, base.branch))
            plain = unsealed_base(base, self._source.seal)
            self._reach([plain.state, plain.projections])

    def _take_events(self, branch: int, low: int, high: int) -> None:
        """Copy the events of a branch that are not there yet."""
        found = self._db.execute("SELECT max(seq) FROM events WHERE branch = ? AND seq <= ?", (branch, high)).fetchone()
        sql = _EVENTS.format(source="events", where="branch = ? AND seq <= ? AND seq > ?")
        for page in self._pages(sql, (branch, high), max(low, found[0] or 0)):
            self._put_events(page)

    def _pages(self, sql: str, args: tuple[int, ...], after: int = 0) -> Iterator[list[Any]]:
        """Yield pages of rows in order of seq."""
        while rows := self._source.query(sql, (*args, after, PAGE_ROWS)):
            yield rows
            after = rows[-1][0]

    def _put_events(self, rows: list[Any]) -> None:
        """Write some events, with what they refer to."""
        with transaction(self._db):
            self._reach([self._source.seal.unseal_text(row[15], EVENT, row[0]) for row in rows])
            for row in rows:
                interned = [self._name(row[4]), self._name(row[11]), self._name(row[12]), self._path(row[13])]
                known = self._db.execute("SELECT 1 FROM events WHERE seq = ?", (row[0],)).fetchone()
                if known is None:
                    copy = (*row[:4], interned[0], *row[5:11], *interned[1:], *row[14:])
                    self._db.execute(INSERT_EVENT, copy)

    def _reach(self, texts: list[str]) -> None:
        """Write the contents that texts refer to."""
        new = sorted(self._marking.reach(self._source.query, texts))
        for start in range(0, len(new), PAGE_ROWS):
            chunk = new[start : start + PAGE_ROWS]
            marks = ",".join("?" * len(chunk))
            for name, kind, parent, text, body in self._source.query(_CONTENTS.format(marks=marks), chunk):
                self._db.execute(INSERT_CONTENT, (name, kind, parent, text, body))

    def _name(self, row: int | None) -> int | None:
        """Return the row of an interned name here."""
        if row is None:
            return None
        if row not in self._names:
            self._names[row] = self._to.name_id(*self._source.query(_NAME, (row,))[0])
        return self._names[row]

    def _path(self, row: int) -> int:
        """Return the row of a path here."""
        if row not in self._paths:
            parent, label = self._source.query(_PATH, (row,))[0]
            self._paths[row] = self._to.path_below(self._path(parent), label)
        return self._paths[row]
