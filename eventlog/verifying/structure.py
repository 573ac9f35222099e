"""What stands around the events: runs, branches, bases, tombstones, the index of executions."""

from __future__ import annotations

from typing import Any

import msgspec

from eventlog.bases import Base, base_proof, read_base, read_retained
from eventlog.digests import BrokenRowError
from eventlog.errors import EventFormatError
from eventlog.nesting import decode_payload
from eventlog.seal import BASE
from eventlog.values import collect_refs
from eventlog.verifying.contents import ContentCheck
from eventlog.verifying.events import GAP
from eventlog.verifying.subject import Branch, Subject

STATUSES = frozenset(("running", "completed", "failed", "interrupted", "paused"))

_HAS_EVENT = "SELECT 1 FROM events WHERE seq = ? AND branch = ?"
_STARTED = "SELECT e.path, n.name FROM events AS e LEFT JOIN names AS n ON n.id = e.type WHERE e.seq = ?"
_EXECUTIONS = "SELECT path, parent, status, started_seq, ended_seq FROM executions WHERE branch = ?"
_ORPHANED = "SELECT DISTINCT branch FROM {table} WHERE branch NOT IN (SELECT id FROM branches)"


class StructureCheck:
    """Checks what is small beside the events."""

    def __init__(self, subject: Subject, contents: ContentCheck) -> None:
        """``subject``: the log under check."""
        self._subject, self._contents = subject, contents
        self._db, self._findings = subject.db, subject.findings

    def check_branch(self, branch: Branch) -> None:
        """Check one branch and what belongs to it."""
        with self._subject.guarded(f"the rows of {self._subject.place(branch.row)}"):
            self._check_row(branch)
            self._check_base(branch)
            self._check_executions(branch)

    def check_rest(self) -> None:
        """Check that nothing belongs to a branch that is not there, and what was changed on purpose."""
        for table in ("executions", "snapshots", "bases", "retained"):
            with self._subject.guarded(f"the rows of {table}"):
                for (branch,) in self._db.execute(_ORPHANED.format(table=table)):
                    kind = {"executions": "execution", "snapshots": "snapshot", "bases": "base"}.get(table, table)
                    self._findings.add(kind, f"{table} of branch row {branch!r}, which is not there")
        with self._subject.guarded("the tombstones"):
            self._check_tombstones()

    # -- branches -----------------------------------------------------------------------------------

    def _check_row(self, branch: Branch) -> None:
        """Check where a branch stands, and where it begins."""
        if branch.run not in self._subject.runs:
            self._wrong(branch, f"its run is row {branch.run!r}, which is not there")
        if (branch.parent is None) != (branch.fork_seq is None):
            self._wrong(branch, "it has a parent and no place there, or a place and no parent")
        if branch.parent is None:
            return
        parent = self._subject.branches.get(branch.parent)
        if parent is None:
            self._wrong(branch, f"its parent is branch row {branch.parent!r}, which is not there")
        elif parent.run != branch.run:
            self._wrong(branch, "its parent belongs to another run")
        elif not self._has_ancestors(branch):
            self._wrong(branch, "its ancestors go round in a circle")
        elif not self._begins_well(branch):
            self._wrong(branch, f"it begins at seq {branch.fork_seq!r}, which is no event of its parent's")

    def _has_ancestors(self, branch: Branch) -> bool:
        """Whether a branch's ancestors come to an end."""
        seen: set[int] = set()
        current: Branch | None = branch
        while current is not None and current.row not in seen:
            seen.add(current.row)
            current = self._subject.branches.get(current.parent) if current.parent is not None else None
        return current is None

    def _begins_well(self, branch: Branch) -> bool:
        """Whether a branch begins at an event of its lineage that is there, at a base, or at nothing."""
        if not isinstance(branch.fork_seq, int):
            return False
        if branch.base or not branch.fork or self._subject.is_archive:
            return branch.fork_seq >= 0
        current = self._subject.branches.get(branch.parent)
        while current is not None:
            if branch.fork == current.base or self._db.execute(_HAS_EVENT, (branch.fork, current.row)).fetchone():
                return branch.fork >= current.base
            if branch.fork > current.fork or current.base:
                return False
            current = self._subject.branches.get(current.parent) if current.parent is not None else None
        return False

    # -- bases ----------------------------------------------------------------------------------------

    def _check_base(self, branch: Branch) -> None:
        """Check the base of a branch: that it is the one, what it says, and what it proves."""
        try:
            base = read_base(self._db, branch.row)
            if base is None:
                if branch.base:
                    raise BrokenRowError(f"there is none, though the branch begins at {branch.base}")
                return
            if base.seq != branch.base_seq:
                raise BrokenRowError(f"it is at {base.seq}, though the branch begins at {branch.base_seq!r}")
            self._require_base(base)
        except (EventFormatError, msgspec.MsgspecError, TypeError, ValueError, AttributeError) as error:
            readable = f"{self._subject.place(branch.row)} after seq {branch.base}"
            place = self._subject.place(branch.row)
            self._findings.add("base", f"its base: {error}", seq=branch.base, place=place, readable=readable)

    def _require_base(self, base: Base) -> None:
        """Compare a base with its proof, and follow what its state refers to.

        Raises:
            EventFormatError: it is not what was proven.
        """
        kept = self._db.execute("SELECT typeof(keeps_tape), keeps_tape FROM bases WHERE branch = ?", (base.branch,))
        if tuple(kept.fetchone()) not in {("integer", 0), ("integer", 1)}:
            raise BrokenRowError("what it says of the tape is neither yes nor no")
        retained = read_retained(self._db, base)
        lost = [seq for seq, _, digest in retained if digest is None]
        if lost:
            raise BrokenRowError(f"event {lost[0]} is missing, which it retains")
        chain = self._subject.chain
        if chain is not None and base_proof(chain, base, retained) != base.proof:
            raise BrokenRowError("it is not what its proof says, or what it retains is not")
        place = self._subject.place(base.branch)
        for field in ("state", "projections"):
            data = self._subject.opened(getattr(base, field), BASE, field, base.seq)
            if data is not None:
                self._contents.want(collect_refs(decode_payload(data)), base.seq, place)
        self._contents.settle()

    # -- the index of executions ------------------------------------------------------------------------

    def _check_executions(self, branch: Branch) -> None:
        """Check that what the index says is told by events."""
        for path, parent, status, started, ended in self._db.execute(_EXECUTIONS, (branch.row,)).fetchall():
            problem = self._execution_problem(path, parent, status, started, ended)
            if problem:
                place = self._subject.place(branch.row)
                self._findings.add("execution", f"kickoff at path row {path!r}: {problem}", place=place,
                                   readable="its events")  # fmt: skip

    def _execution_problem(self, path: Any, parent: Any, status: Any, started: Any, ended: Any) -> str:
        """Return what is wrong with a row of the index."""
        try:
            self._subject.interned.path(path)
            self._subject.interned.path(parent if parent is not None else 0)
        except BrokenRowError as error:
            return str(error)
        if status not in STATUSES:
            return f"its status is {status!r}"
        if ended is not None and (ended < started or not self._subject.has_come_to(ended)):
            return f"it began at seq {started} and ended at {ended}, which cannot be"
        found = self._db.execute(_STARTED, (started,)).fetchone()
        if found is None:
            gone = started <= self._subject.highest_base or any(a <= started <= b for a, b in self._subject.lost_seqs)
            return "" if gone or self._subject.is_archive else f"it began at seq {started}, which is missing"
        if found[0] != path and found[1] != GAP:
            return f"it began at seq {started}, which is an event of another path"
        return ""

    # -- tombstones ---------------------------------------------------------------------------------------

    def _check_tombstones(self) -> None:
        """Check that what was changed on purpose is known; the proofs are checked with the rows themselves."""
        counts: dict[Any, int] = {}
        for what, _id in self._db.execute("SELECT what, id FROM tombstones"):
            counts[what] = counts.get(what, 0) + 1
        for what, count in counts.items():
            if what not in ("event", "content"):
                self._findings.add("tombstone", f"{count} of a kind we do not know: {what!r}")
        known = sum(counts.get(what, 0) for what in ("event", "content"))
        if known:
            self._findings.note(f"{known} rows were changed on purpose: forgotten, or replaced by a repair")

    def _wrong(self, branch: Branch, what: str) -> None:
        """Take down what is wrong with a branch."""
        self._findings.add("branch", what, place=self._subject.place(branch.row), readable="the other branches")
