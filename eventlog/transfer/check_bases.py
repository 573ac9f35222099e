"""Check the bases of an import file: that its events are those it retains, and that the log has no others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from eventlog.errors import EventLogError
from eventlog.ids import shown_id
from eventlog.replay.state import RunState
from eventlog.transfer.lines import VERSION_OF_BASES, BranchLine, EventLine, Header, RunLine

Query = Callable[[str, Sequence[Any]], list[Any]]
"""Runs SQL and returns the rows."""
PAGE_ROWS = 500

_BRANCH = (
    "SELECT b.id, b.base_seq, b.parent IS NOT NULL OR EXISTS (SELECT 1 FROM events WHERE branch = b.id)"
    " FROM branches AS b JOIN runs AS r ON r.id = b.run WHERE r.name = ? AND b.name = ?"
)
_BASE = (
    "SELECT e.event_id, b.keeps_tape, b.events FROM bases AS b LEFT JOIN events AS e ON e.seq = b.seq"
    " WHERE b.branch = ?"
)
_IDS = (
    "SELECT seq, event_id FROM events AS e WHERE branch = ? AND seq > ? AND"
    " (seq > ? OR EXISTS (SELECT 1 FROM retained WHERE retained.seq = e.seq)) ORDER BY seq LIMIT ?"
)


class RunConflictError(EventLogError):
    """The log has a run of that name with other events."""

    hint = "nothing was imported; give it another name: eventlog import FILE --as NAME"

    def __init__(self, run: str, reason: str = "with other events") -> None:
        """Keep the run, and what is different about it."""
        super().__init__(run, reason)
        self.run, self.reason = run, reason

    def __str__(self) -> str:
        """Say which run."""
        return f"this log has another run {self.run!r}, {self.reason}"


def is_here(query: Query, run: str, line: BranchLine) -> bool:
    """Whether a log has a branch with the base that a file has of it.

    Raises:
        RunConflictError: it has the branch with another base, or only one of both has a base.
    """
    rows = query(_BRANCH, (run, line.branch))
    if not rows or not (rows[0][1] or rows[0][2]):
        return False
    row, base_seq, _ = rows[0]
    if bool(base_seq) != (line.base is not None):
        raise RunConflictError(run, f"whose branch {line.branch!r} {'was' if base_seq else 'was not'} compacted")
    if line.base is None:
        return True
    event_id, keeps_tape, events = query(_BASE, (row,))[0]
    if (shown_id(event_id), bool(keeps_tape), events) != (line.base.event_id, line.base.keeps_tape, line.base.events):
        raise RunConflictError(run, f"whose branch {line.branch!r} was compacted otherwise")
    return True


def own_ids(query: Query, run: str, branch: str) -> Iterator[str]:
    """Yield the ids of a branch's own events, as far as they can be read or are retained for some branch."""
    rows = query(_BRANCH, (run, branch))
    if not rows:
        return
    row, base, _ = rows[0]
    after = 0
    while page := query(_IDS, (row, after, base, PAGE_ROWS)):
        yield from (str(shown_id(event_id)) for _, event_id in page)
        after = page[-1][0]


def header_problem(header: Header) -> str:
    """Return what is wrong with the branches of a header; nothing when they are right."""
    for run in header.runs:
        known: dict[str, BranchLine] = {}
        for line in run.branches if any(line.base for line in run.branches) else ():
            problem = _branch_problem(known, line)
            if header.version != VERSION_OF_BASES:
                problem = f"version {header.version} has no bases"
            if problem:
                return f"branch {run.run}/{line.branch}: {problem}"
            known[line.branch] = line
    return ""


def _branch_problem(known: dict[str, BranchLine], line: BranchLine) -> str:
    """Return what is wrong with a branch of a compacted run; ``known``: those before it."""
    if line.branch in known:
        return "a second time"
    if line.parent is not None and line.parent not in known:
        return f"its parent {line.parent!r} does not come before it"
    if line.base is None:
        return ""
    if line.parent is not None and not 0 < (line.fork_seq or 0) <= line.base.seq:
        return "it has a parent and a base, and its fork_seq is not between them"
    try:
        state = msgspec.convert(line.base.state, RunState)
        msgspec.json.encode([line.base, state])
    except (msgspec.MsgspecError, OverflowError, RecursionError) as error:
        return f"its base: {error}"
    return "" if state.cursor == line.base.seq else f"its state is that at {state.cursor}, its base at {line.base.seq}"


class BasesCheck:
    """What must hold from line to line of a run with bases."""

    def __init__(self, run: RunLine | None) -> None:
        """``None``: the events of no run."""
        self._lines = {line.branch: line for line in run.branches} if run is not None else {}
        self._bases = {line.branch: line.base for line in self._lines.values() if line.base is not None}
        self._missing = {branch: base.seq for branch, base in self._bases.items()}
        self._oldest: dict[str, int] = {}
        for line in self._lines.values():
            if line.fork_event_id is not None and line.base is None:
                oldest = max(self._base_above(line), self._oldest.get(line.fork_event_id, 0))
                self._oldest[line.fork_event_id] = oldest
        self._last = -(2**63)

    def problem(self, line: EventLine) -> str:
        """Return what is wrong with a line; nothing when it is right."""
        for branch in line.retained_for:
            if branch not in self._bases or line.branch not in self._lineage(branch):
                return f"it is retained for {branch!r}, which has no base or is no descendant of {line.branch!r}"
        return self._place_problem(line) if self._bases else ""

    def end_problem(self) -> str:
        """Return what is missing at the end."""
        return next((f"the event at the base of branch {branch!r} is missing" for branch in self._missing), "")

    def _place_problem(self, line: EventLine) -> str:
        """Return what is wrong with where a line stands."""
        if line.seq <= self._last:
            return f"seq {line.seq} after seq {self._last}: the events of a compacted run are in the order of their seq"
        self._last = line.seq
        own = self._bases.get(line.branch)
        if own is not None and line.seq <= own.seq and not line.retained_for:
            return f"it lies at or below the base of branch {line.branch!r}, and no branch retains it"
        if any(line.seq <= (self._lines[name].fork_seq or 0) for name in self._lineage(line.branch)):
            return f"it lies before the beginning of branch {line.branch!r}"
        if line.seq < self._oldest.get(line.event_id, line.seq):
            return "a branch begins here, below the base of its parent"
        return self._cut_problem(line)

    def _cut_problem(self, line: EventLine) -> str:
        """Return what is wrong with a line as seen from the bases."""
        for branch, base in self._bases.items():
            is_cut = (line.event_id, line.seq) == (base.event_id, base.seq)
            if is_cut and branch in line.retained_for:
                self._missing.pop(branch, None)
            elif line.seq == base.seq or line.event_id == base.event_id:
                return f"it is not the event at the base of branch {branch!r}, and stands in its place"
            elif branch in line.retained_for and line.seq > base.seq:
                return f"it is retained for {branch!r} and lies above its base"
            elif branch in self._missing and line.seq > base.seq:
                return f"the event at the base of branch {branch!r} is missing before it"
        return ""

    def _base_above(self, line: BranchLine) -> int:
        """Return the base that the parent of a branch begins at; 0 for none."""
        for name in self._lineage(line.parent):
            if name in self._bases:
                return self._bases[name].seq
        return 0

    def _lineage(self, branch: str | None) -> Iterator[str]:
        """Yield a branch and those it descends from, nearest first."""
        seen: set[str] = set()
        while branch is not None and branch not in seen:
            seen.add(branch)
            yield branch
            branch = self._lines[branch].parent if branch in self._lines else None
