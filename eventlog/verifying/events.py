"""The chain of every branch, link by link: each digest is computed anew after the one that is stored before it.

So one damaged event is one finding: the next one is checked against what is stored, not against what should be.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from eventlog.digests import COLUMNS, BrokenRowError, Row, digest_after, facts_of, tombstone_of
from eventlog.errors import EventFormatError
from eventlog.nesting import decode_payload
from eventlog.seal import EVENT
from eventlog.values import collect_refs
from eventlog.verifying.anchors import Anchors
from eventlog.verifying.contents import ContentCheck
from eventlog.verifying.pages import Table, Unreadable
from eventlog.verifying.subject import Subject

GAP = "eventlog.capture_gap"
PLACES_MAX = 5
_INDEXED = "SELECT count(*) FROM events INDEXED BY events_by_branch WHERE branch = ? AND seq BETWEEN ? AND ?"


class LostSeqs(msgspec.Struct):
    """Of ``eventlog.capture_gap``, if a repair wrote it."""

    lost: list[tuple[int, int]] = []


class EventCheck:
    """One pass over events in order."""

    def __init__(self, subject: Subject, contents: ContentCheck, *, deep: bool) -> None:
        """``deep``: every payload is decoded, also one that refers to nothing."""
        self._subject, self._contents, self._deep = subject, contents, deep
        self._db, self._findings = subject.db, subject.findings
        self._anchors = Anchors(subject)
        self.heads: dict[int, tuple[int, Any]] = {}
        """Branch → seq and stored digest of its newest event."""
        self.count = 0
        self._retained: dict[int, bytes] = {}
        self._tombstones: dict[int, bytes] = {}
        self._holes: list[tuple[int, int]] = []
        self._has_sealed_gap = False
        self._gone = 0
        """End of the last stretch of seqs that should be there and are not."""

    def check_all(self) -> None:
        """Check the whole log: every seq must be there that no compaction took."""
        self._check("events", gapless=not self._subject.is_archive)

    def check_branch(self, branch: int) -> None:
        """Check the events of one branch."""
        self._check(f"events WHERE branch = {int(branch)}", gapless=False)

    def _check(self, table: str, *, gapless: bool) -> None:
        """Read on page by page."""
        next_seq = 1
        for page in Table(self._db, COLUMNS, table, "seq").read(0, self._subject.last_seq):
            if isinstance(page, Unreadable):
                self._unreadable(page)
                next_seq = page.last + 1
                continue
            rows = [Row._make(row) for row in page]
            self._look_beside(rows[0].seq, rows[-1].seq)
            for row in rows:
                if gapless and row.seq > next_seq:
                    self._missing(next_seq, row.seq - 1)
                next_seq = row.seq + 1
                self._check_row(row)
                self._subject.on_step()
            self._contents.settle()
        self._tell_missing()

    def _look_beside(self, first: int, last: int) -> None:
        """Fetch what is retained, and what was changed on purpose, between two seqs."""
        where = "BETWEEN ? AND ?"
        with self._subject.guarded("what is retained"):
            found = self._db.execute(f"SELECT seq, previous FROM retained WHERE seq {where}", (first, last))
            self._retained = dict(found)
        with self._subject.guarded("the tombstones"):
            sql = f"SELECT id, proof FROM tombstones WHERE what = 'event' AND id {where}"
            self._tombstones = dict(self._db.execute(sql, (first, last)))

    def _unreadable(self, page: Unreadable) -> None:
        """Rows cannot be read; the index may still know whose they are."""
        last = min(page.last, self._subject.last_seq)
        self._gone = last
        known = [(row, n) for row in self._subject.branches if (n := self._indexed(row, page.first, last))]
        many = f"seq {page.first}" if last == page.first else f"seq {page.first} to {last}"
        readable = f"events up to seq {page.first - 1}"
        if len(known) == 1:
            place = self._subject.place(known[0][0])
            self._findings.add("page", f"{many}: {page.error}", seq=page.first, place=place, readable=readable)
        else:
            whose = "; ".join(f"{n} of {self._subject.place(row)}" for row, n in known[:PLACES_MAX])
            what = f"{many}{f' ({whose})' if whose else ''}: {page.error}"
            self._findings.add("page", what, seq=page.first, readable=readable)

    def _indexed(self, branch: int, first: int, last: int) -> int:
        """Return how many events of a branch the index knows between two seqs."""
        try:
            return int(self._db.execute(_INDEXED, (branch, first, last)).fetchone()[0])
        except sqlite3.Error:
            return 0

    def _missing(self, first: int, last: int) -> None:
        """Seqs are not there: they are given without gaps, and only compaction takes events away."""
        first = max(first, self._subject.highest_base + 1)
        if first <= last:
            self._holes.append((first, last))
        self._gone = last

    def _tell_missing(self) -> None:
        """Take down the seqs that no repair has accounted for: what it says of them may stand behind them."""
        lost = sorted(self._subject.lost_seqs)
        for first, last in self._holes:
            seq = first
            for start, end in lost:
                if start <= seq <= end:
                    seq = end + 1
            if seq <= last:
                many = f"seq {seq} is" if seq == last else f"seq {seq} to {last} are"
                if self._has_sealed_gap:
                    self._findings.note(f"{many} missing; an event that may say why is encrypted, and the key not here")
                    continue
                self._findings.add("seq", f"{many} missing", seq=seq, readable=f"events up to {seq - 1}")
        self._holes.clear()

    # -- one event --------------------------------------------------------------------------------

    def _check_row(self, row: Row) -> None:
        """Check one event and go on from it."""
        branch = self._subject.branches.get(row.branch)
        if branch is None:
            self._wrong(row, f"it belongs to branch row {row.branch!r}, which is not there")
            return
        retained = self._retained.get(row.seq)
        is_below = row.seq <= branch.base
        if is_below and retained is None:
            return  # compacted, and not deleted yet
        self.count += 1
        before = self.heads.get(row.branch)
        previous = retained if is_below else before[1] if before is not None else self._anchors.of(row.branch)
        try:
            self._require(row, previous)
        except BrokenRowError as error:
            self._wrong(row, str(error))
        if not is_below:
            self.heads[row.branch] = (row.seq, row.digest)

    def _require(self, row: Row, previous: Any) -> None:
        """Compare one event with its digest, and with what it says about others.

        Raises:
            BrokenRowError: it is not what it should be.
        """
        branch = self._subject.branches[row.branch]
        if row.run != branch.run:
            raise BrokenRowError(f"it says run row {row.run!r}, its branch says {branch.run!r}")
        if row.seq <= branch.fork:
            raise BrokenRowError(f"it stands before its branch begins, at {branch.fork}")
        facts = facts_of(row, self._subject.interned)
        if any(isinstance(link, int) and not 0 < link < row.seq for link in facts[0][3:7]):
            raise BrokenRowError("it is linked to an event that comes later")
        self._require_digest(row, previous, facts)
        self._read_payload(row, facts[0][1])

    def _require_digest(self, row: Row, previous: Any, facts: tuple[Any, ...]) -> None:
        """Compare the stored digest with the computed one; of a row changed on purpose, the proof of that."""
        chain = self._subject.chain
        if chain is None:
            return
        proof = self._tombstones.get(row.seq)
        if proof is not None:
            if tombstone_of(chain, row, facts) != proof:
                raise BrokenRowError("it was changed on purpose once, and again since")
        elif not isinstance(previous, bytes):
            raise BrokenRowError("what it follows cannot be read")
        elif digest_after(chain, previous, row, facts) != row.digest:
            head = self.heads.get(row.branch)
            if self._gone > max(head[0] if head else 0, self._subject.branches[row.branch].fork):
                raise BrokenRowError("it cannot be proven: an event before it is lost")
            raise BrokenRowError("its digest is not that of its content after its predecessor")

    def _read_payload(self, row: Row, kind: str) -> None:
        """Follow what the payload refers to."""
        try:
            data = self._subject.opened(row.payload, EVENT, row.seq)
            if kind == GAP:
                self._take_lost(data)
            if data is None or (not self._deep and b'"$content"' not in data):
                return
            tree = decode_payload(data)
        except EventFormatError as error:
            raise BrokenRowError(str(error)) from error
        self._contents.want(collect_refs(tree), row.seq, self._subject.place(row.branch))

    def _take_lost(self, payload: bytes | None) -> None:
        """Take down which seqs a repair could not save."""
        if payload is None:
            self._has_sealed_gap = True
            return
        try:
            gap = msgspec.json.decode(payload, type=LostSeqs)
        except msgspec.MsgspecError:
            return
        self._subject.lost_seqs += gap.lost

    def _wrong(self, row: Row, what: str) -> None:
        """Take down what is wrong with an event."""
        place = self._subject.place(row.branch)
        head, branch = self.heads.get(row.branch), self._subject.branches.get(row.branch)
        good = head[0] if head is not None else branch.fork if branch is not None else 0
        good = min(good, self._findings.first_bad.get(place, row.seq) - 1)
        self._findings.add("event", what, seq=row.seq, place=place, readable=f"{place} up to seq {max(good, 0)}")
