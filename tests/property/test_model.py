"""A log against a list: whatever is appended, forked, snapshotted, compacted and reopened, in any order."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import eventlog
from eventlog import CompactedError, SequenceConflictError
from eventlog.replay.rebuild import rebuild_state

TEXT = "a text that is long enough to be kept among the large values, and that comes again and again " * 4
BRANCHES = 4


class LogAndList(RuleBasedStateMachine):
    """The model of a branch is the list of (seq, number) a reader must see, and the oldest cursor there is."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.number = 0
        self.model: dict[str, list[tuple[int, int]]] = {"main": []}
        self.oldest: dict[str, int] = {"main": 0}
        self.begun: dict[str, tuple[str, int]] = {}
        """Branch → its parent, and the cursor there."""

    @initialize()
    def begin(self) -> None:
        """Open an empty log."""
        self.log = eventlog.open(self.folder / "log.db")

    def teardown(self) -> None:
        """Close and remove everything."""
        self.log.close()
        shutil.rmtree(self.folder)

    # -- what can be done ---------------------------------------------------------------------------

    @rule(data=st.data(), count=st.integers(1, 5), long=st.booleans())
    def append(self, data: st.DataObject, count: int, *, long: bool) -> None:
        """Append events to a branch in one transaction; most say the same long text."""
        branch = self.some_branch(data)
        numbers = range(self.number, self.number + count)
        payloads: list[tuple[str, dict[str, Any]]] = [("m.x", {"n": n, "text": TEXT if long else ""}) for n in numbers]
        seqs = self.log.append_many(payloads, run="r", branch=branch)
        self.model[branch] += zip(seqs, numbers, strict=True)
        self.number += count

    @rule(data=st.data())
    def append_where_it_is_not(self, data: st.DataObject) -> None:
        """A writer with a wrong idea of its branch changes nothing."""
        branch = self.some_branch(data)
        if self.model[branch]:
            with pytest.raises(SequenceConflictError):
                self.log.append("m.x", {"n": -1}, run="r", branch=branch, expected_seq=self.head(branch) - 1)

    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        """Begin a branch anywhere on another; below its base there is nothing to begin with."""
        parent, name = self.some_branch(data), f"b{len(self.model)}"
        if len(self.model) == BRANCHES or not self.model["main"]:
            return
        cursor = data.draw(st.integers(0, self.head(parent)))
        if cursor < self.oldest[parent]:
            with pytest.raises(CompactedError):
                self.log.fork("r", parent=parent, to=cursor, branch=name)
            return
        self.log.fork("r", parent=parent, to=cursor, branch=name)
        self.model[name] = [pair for pair in self.model[parent] if pair[0] <= cursor]
        self.oldest[name], self.begun[name] = self.oldest[parent] if cursor else 0, (parent, cursor)

    @rule(data=st.data())
    def snapshot(self, data: st.DataObject) -> None:
        """Make a checkpoint somewhere."""
        branch = self.some_branch(data)
        if self.model[branch]:
            to = data.draw(st.integers(max(self.oldest[branch], 1), self.head(branch)))
            self.log.snapshot("r", branch=branch, to=to)

    @rule(kept=st.integers(0, 2), tape=st.booleans())
    def compact(self, kept: int, *, tape: bool) -> None:
        """Drop what may go; each branch begins where the report says, or its parent does if that is not too late."""
        if not self.model["main"]:
            return
        report = self.log.compact(kept, keep_tape=tape)
        assert [branch.problem for branch in report.branches if branch.problem] == []
        for branch in report.branches:
            assert branch.cut >= self.oldest[branch.branch]
            self.oldest[branch.branch] = branch.cut
        for name, (parent, cursor) in self.begun.items():
            if cursor >= self.oldest[parent]:
                self.oldest[name] = max(self.oldest[name], self.oldest[parent])

    @rule()
    def reopen(self) -> None:
        """Close and open the file."""
        self.log.close()
        self.log = eventlog.open(self.folder / "log.db")

    # -- what must hold -------------------------------------------------------------------------------

    @invariant()
    def every_branch_reads_as_its_list(self) -> None:
        """In order, whole, from the oldest cursor on."""
        for branch, pairs in self.model.items():
            if self.model["main"]:
                seen = [(event.seq, event.payload["n"]) for event in self.log.events("r", branch)]
                assert seen == [pair for pair in pairs if pair[0] > self.oldest[branch]]
                state = rebuild_state(self.log.reader, "r", branch)
                assert (state.event_count, state.cursor) == (len(pairs), self.head(branch))

    @invariant()
    def what_is_gone_is_refused(self) -> None:
        """Never an answer for a cursor before the base."""
        for branch, oldest in self.oldest.items():
            if oldest:
                with pytest.raises(CompactedError):
                    self.log.state("r", branch=branch, to=oldest - 1)

    # -- helpers --------------------------------------------------------------------------------------

    def some_branch(self, data: st.DataObject) -> str:
        """Draw one of the branches there are."""
        return data.draw(st.sampled_from(sorted(self.model)))

    def head(self, branch: str) -> int:
        """Return the newest seq of a branch."""
        return max((seq for seq, _ in self.model[branch]), default=0)


LogAndList.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestLogAndList = LogAndList.TestCase
