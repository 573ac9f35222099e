"""Give imported branches the bases they had: with new seqs, new digests and a proof of this log's."""

from __future__ import annotations

import time
from collections.abc import Iterable

import msgspec

from eventlog.append import Appender
from eventlog.bases import PUT, RETAINED, Base, Spent, base_proof, sealed_base
from eventlog.branching import find_branch, last_event, make_branch, override_execution
from eventlog.ids import stored_id
from eventlog.recode import Recoder
from eventlog.transfer.check_bases import is_here
from eventlog.transfer.lines import BaseLine, BranchLine, EventLine, RunLine
from eventlog.transfer.states import Seqs, recode_state

_RUN = "SELECT id FROM runs WHERE name = ?"
_SEQ = "SELECT seq FROM events WHERE run = ? AND event_id = ?"
_MAKE_ROOT = "INSERT INTO branches (run, name, created_ns) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_PUT_RETAINED = "INSERT INTO retained (branch, seq, previous) VALUES (?, ?, ?)"
_MOVE = "UPDATE branches SET base_seq = ? WHERE id = ?"
_STAND = "UPDATE executions SET status = ?, ended_seq = ? WHERE branch = ? AND path = ?"


class Branches:
    """Makes the branches of an imported run, and their bases, as its events come by."""

    def __init__(self, appender: Appender, recoder: Recoder, name: str, run: RunLine) -> None:
        """The run is there, under ``name``; everything is part of the transaction under way.

        Raises:
            RunConflictError: it is there with other bases.
        """
        self._db, self._appender, self._recoder, self._name = appender.db, appender, recoder, name
        self._run = int(self._db.execute(_RUN, (name,)).fetchone()[0])
        self._lines = {line.branch: line for line in run.branches}
        query = lambda sql, args: self._db.execute(sql, args).fetchall()  # noqa: E731 - as the reader does
        here = {line.branch for line in run.branches if is_here(query, name, line)}
        waiting = [(line.base.seq, line.branch) for line in run.branches if line.base and line.branch not in here]
        self._waiting = sorted(waiting, reverse=True)
        self._retained: dict[str, list[int]] = {branch: [] for _, branch in waiting}
        self._last = self._waiting[0][0] if self._waiting else 0
        self._seqs = Seqs([], [])
        self._rows: dict[str, int] = {}

    def before(self, line: EventLine) -> None:
        """Do what comes before an event: its branch, and the base of that, if the event lies above it.

        A base comes no sooner: the branch may begin on one whose own beginning has not come by yet.
        """
        if line.branch not in self._rows:
            self._make_in_order(line)
        found = next((base for base in self._waiting if base[1] == line.branch and base[0] < line.seq), None)
        if found is not None:
            self._waiting.remove(found)
            self._settle(line.branch)

    def after(self, line: EventLine) -> None:
        """Take note of an event that is there now."""
        if line.seq <= self._last:
            (seq,) = self._db.execute(_SEQ, (self._run, stored_id(line.event_id))).fetchone()
            self._seqs.old.append(line.seq)
            self._seqs.new.append(seq)
            for branch in line.retained_for:
                if branch in self._retained:
                    self._retained[branch].append(seq)

    def finish(self) -> None:
        """All events have come by."""
        for branch in self._lines:  # also those without events of their own
            self.make(branch)
        while self._waiting:
            self._settle(self._waiting.pop()[1])

    def _make_in_order(self, line: EventLine) -> None:
        """Make the branch of an event, and first those that were there before it."""
        for name, other in self._lines.items():
            if name == line.branch:
                break
            if other.parent is None or (other.parent in self._rows and self._has_begun(other, line.seq)):
                self.make(name)
        self.make(line.branch)

    def _has_begun(self, branch: BranchLine, seq: int) -> bool:
        """Whether a branch begins before an event."""
        if branch.fork_seq is not None:
            return branch.fork_seq < seq
        return bool(self._db.execute(_SEQ, (self._run, stored_id(branch.fork_event_id))).fetchone())

    def _labels(self, path: str) -> tuple[str, ...]:
        """Return a path as the labels it is made of."""
        return tuple(self._recoder.path(path).split("/")[1:])

    def make(self, branch: str) -> int:
        """Return the row of a branch, made unless it is there, after those it descends from."""
        found = self._rows.get(branch) or find_branch(self._db, self._run, branch)
        line = self._lines.get(branch)
        if found is None and line is not None and line.parent is not None:
            found = make_branch(self._db, self._run, branch, self.make(line.parent), self._fork_seq(line))
            self._appender.reopen(found, [self._labels(path) for path in line.reopened])
        elif found is None:
            self._db.execute(_MAKE_ROOT, (self._run, branch, time.time_ns()))
            found = find_branch(self._db, self._run, branch) or 0
        self._rows[branch] = found
        return found

    def _fork_seq(self, line: BranchLine) -> int:
        """Return the cursor on its parent at which a branch begins."""
        found = self._db.execute(_SEQ, (self._run, stored_id(line.fork_event_id))).fetchone()
        return int(found[0]) if found else self._seqs.floor(line.fork_seq or 0)

    def _settle(self, branch: str) -> None:
        """Write the base of a branch."""
        line = self._lines[branch].base
        if line is None:
            return
        row = self.make(branch)
        base = sealed_base(self._base(row, branch, line), self._appender.seal)
        rows = [(row, seq, last_event(self._db, row, seq - 1)[1]) for seq in self._retained[branch]]
        self._db.executemany(_PUT_RETAINED, rows)
        base.proof = base_proof(self._appender.chain, base, list(self._db.execute(RETAINED, (row, base.seq))))
        self._db.execute(PUT, base.row())
        self._db.execute(_MOVE, (base.seq, row))
        self._place_executions(row, line)

    def _base(self, row: int, branch: str, line: BaseLine) -> Base:
        """Return the base of a branch, without its proof."""
        seq, digest = last_event(self._db, row, self._seqs.floor(line.seq))
        state = recode_state(self._recoder, line.state, self._seqs, self._name, branch)
        self._appender.store_contents(state.contents)
        state.publish()
        return Base(
            branch=row, seq=seq, digest=digest, state=state.payload.decode(),
            projections=msgspec.json.encode(line.projections).decode(), spent=self._spent(line.spent),
            keeps_tape=line.keeps_tape, events=line.events, created_ns=time.time_ns(),
        )  # fmt: skip

    def _spent(self, calls: Iterable[Spent]) -> str:
        """Return the model calls whose events are gone."""
        text = self._recoder.text
        moved = [
            Spent(
                self._recoder.path(call.lane), self._seqs.floor(call.seq), call.agent_id and text(call.agent_id),
                call.agent_role and text(call.agent_role), call.usage, call.is_told,
            ) for call in calls
        ]  # fmt: skip
        return msgspec.json.encode(moved).decode()

    def _place_executions(self, row: int, line: BaseLine) -> None:
        """Say how each execution stood at the cut; events after it go on from there."""
        for standing in line.executions:
            ended = None if standing.ended_seq is None else self._seqs.ceiling(standing.ended_seq)
            path = self._appender.path_id(self._labels(standing.path))
            if not self._db.execute(_STAND, (standing.status, ended, row, path)).rowcount:
                override_execution(self._db, row, path, standing.status, ended)
