"""Which events are proven: each by the digest of the one before it, whether that one itself is whole or not.

::

    proven      its digest is that of its content after its predecessor
    changed     a tombstone proves that it differs from its digest on purpose
    unproven    its predecessor is lost, and with it what would prove it
    damaged     its predecessor is there, and it does not follow
    swept       below a base and not retained: compaction had not deleted it yet
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from eventlog.digests import COLUMNS, BrokenRowError, Row, facts_of
from eventlog.errors import EventFormatError
from eventlog.nesting import decode_payload
from eventlog.repair.links import Links
from eventlog.seal import EVENT

PAGE_ROWS = 500
PROVEN, CHANGED, UNPROVEN, DAMAGED, SWEPT = "proven", "changed", "unproven", "damaged", "swept"
_PAGE = f"SELECT {COLUMNS} FROM events WHERE branch = ? AND seq > ? ORDER BY seq LIMIT {PAGE_ROWS}"
_BETWEEN = "SELECT count(*) FROM events WHERE seq > ? AND seq < ?"
_SET = "UPDATE events SET verdict = ? WHERE seq = ?"
_CONFIRM = "UPDATE events SET confirmed = 1 WHERE seq = ?"
_CORRECT = "UPDATE events SET verdict = 'proven', digest = ? WHERE seq = ?"


class Break(msgspec.Struct, frozen=True):
    """A place on a branch where the chain does not hold."""

    branch: int
    after: int
    """The last event before it, or where the branch begins."""
    before: int
    """The first event after it."""


class _Link(msgspec.Struct):
    """What the next event may chain to."""

    seq: int
    stored: Any
    computed: Any = None
    """What the digest should be, if the stored one is damaged."""
    is_damaged: bool = False


class ChainJudge:
    """Decides about the events of one branch after the other, parents first."""

    def __init__(self, links: Links, *, keeps_unproven: bool) -> None:
        """``keeps_unproven``: also what nothing speaks against."""
        self._links, self._work, self._keeps_unproven = links, links.work, keeps_unproven
        self.breaks: list[Break] = []

    def judge(self, branch: int) -> None:
        """Decide about all events of a branch."""
        base = self._work.one("SELECT base_seq FROM branches WHERE id = ?", branch) or 0
        last, begins = self._anchor(branch), self._begins(branch)
        for row in self._rows(branch):
            if row.seq <= base:
                self._judge_retained(row)
            else:
                last = self._judge_row(row, last, begins)

    def _rows(self, branch: int) -> Iterator[Row]:
        """Yield the events of a branch."""
        after = -1
        while rows := self._work.db.execute(_PAGE, (branch, after)).fetchall():
            yield from map(Row._make, rows)
            after = rows[-1][0]

    def _begins(self, branch: int) -> int:
        """Return where a branch begins, exclusive."""
        sql = "SELECT max(coalesce(fork_seq, 0), base_seq) FROM branches WHERE id = ?"
        return int(self._work.one(sql, branch) or 0)

    def _anchor(self, branch: int) -> _Link | None:
        """Return what the first event of a branch chains to; ``None`` when that is lost."""
        found = self._work.db.execute("SELECT seq, digest FROM bases WHERE branch = ?", (branch,)).fetchone()
        if found is not None:
            return _Link(*found)
        parent, fork = self._work.db.execute("SELECT parent, fork_seq FROM branches WHERE id = ?", (branch,)).fetchone()
        if parent is None or not fork:
            return _Link(0, b"")
        at_base = self._work.one("SELECT digest FROM bases WHERE seq = ?", fork)
        if at_base is not None:
            return _Link(fork, at_base)
        row = self._links.row(fork)
        if row is None:
            return None
        verdict = self._work.one("SELECT verdict FROM events WHERE seq = ?", fork)
        return _Link(fork, row.digest, is_damaged=verdict == DAMAGED)

    # -- one event --------------------------------------------------------------------------------

    def _judge_retained(self, row: Row) -> None:
        """Decide about an event at or below a base: it is proven by what is kept of the one before it."""
        found = self._work.db.execute("SELECT previous FROM retained WHERE seq = ?", (row.seq,)).fetchall()
        if not found:
            verdict = SWEPT
        elif any(self._links.follows(previous, row) for (previous,) in found):
            verdict = PROVEN
        elif self._links.is_changed(row):
            verdict = CHANGED
        else:
            verdict = self._unproven(row) if any(not previous for (previous,) in found) else DAMAGED
        self._work.db.execute(_SET, (verdict, row.seq))

    def _judge_row(self, row: Row, last: _Link | None, begins: int) -> _Link:
        """Decide about an event after another; returns what the next one may chain to."""
        after = max(last.seq if last is not None else 0, begins)
        if self._is_proven(row, last):
            verdict = PROVEN
        elif self._links.is_changed(row):
            verdict = CHANGED
        elif last is None or last.is_damaged or self._has_gap(after, row.seq):
            verdict = self._unproven(row)
        else:
            verdict = DAMAGED
        if verdict in (UNPROVEN, DAMAGED) and (last is None or self._has_gap(after, row.seq)):
            self.breaks.append(Break(row.branch, after, row.seq))
        self._work.db.execute(_SET, (verdict, row.seq))
        previous = last.computed or last.stored if last is not None else None
        return _Link(row.seq, row.digest, self._links.digest(previous, row), verdict == DAMAGED)

    def _is_proven(self, row: Row, last: _Link | None) -> bool:
        """Whether an event follows what is stored of its predecessor, or what should be stored."""
        if last is None:
            return False
        if self._links.follows(last.stored, row):
            if last.is_damaged:
                self._work.db.execute(_CONFIRM, (last.seq,))
            return True
        if last.computed is not None and self._links.follows(last.computed, row):
            self._work.db.execute(_CORRECT, (last.computed, last.seq))  # it was the digest that was damaged
            return True
        return False

    def _has_gap(self, after: int, before: int) -> bool:
        """Whether an event between two may be lost."""
        return int(self._work.one(_BETWEEN, after, before)) < before - after - 1

    def _unproven(self, row: Row) -> str:
        """Return whether an event that nothing proves is kept: if nothing speaks against it."""
        try:
            facts_of(row, self._links.interned)
            decode_payload(self._links.opened(row.payload, EVENT, row.seq))
        except (BrokenRowError, EventFormatError):
            return DAMAGED
        return UNPROVEN if self._keeps_unproven else DAMAGED


def in_order(links: Links) -> list[int]:
    """Return all branches, parents before their children; those that go round in a circle begin nowhere."""
    rows = dict(links.work.db.execute("SELECT id, parent FROM branches ORDER BY id"))
    done: list[int] = []
    waiting = dict(rows)
    while waiting:
        ready = [row for row, parent in waiting.items() if parent is None or parent not in waiting]
        if not ready:
            ready = [next(iter(waiting))]
            links.work.db.execute("UPDATE branches SET parent = NULL, fork_seq = NULL WHERE id = ?", ready)
        for row in ready:
            if waiting[row] is not None and waiting[row] not in rows:
                links.work.db.execute("UPDATE branches SET parent = NULL, fork_seq = NULL WHERE id = ?", (row,))
            del waiting[row]
        done += ready
    return done
