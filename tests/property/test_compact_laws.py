"""Laws of compaction: whatever the history, its forks and the cuts, what can still be asked is answered as before."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog import BranchExistsError, CompactedError, Log
from eventlog.record import StoredEvent
from eventlog.replay.rebuild import rebuild_state
from eventlog.replay.state import RunState
from tests.property.test_fold_laws import HISTORIES
from tests.property.test_snapshot_laws import EXAMPLES, append, new_log, settle

BRANCHES = ("main", "a", "b", "c")
CUTS = st.integers(0, 3)
"""How many checkpoints are kept."""


def renamed(history: list[StoredEvent]) -> list[StoredEvent]:
    """Return other events that tell the same: those with known ids would not be appended."""
    return [
        msgspec.structs.replace(
            event, event_id=f"later-{event.event_id}",
            started_event_id=event.started_event_id and f"later-{event.started_event_id}",
        )
        for event in history
    ]  # fmt: skip


def timeless(found: dict[tuple[str, int], RunState]) -> dict[tuple[str, int], RunState]:
    """Return states without the times of the events that were appended just now."""
    return {place: msgspec.structs.replace(s, started_at=None, updated_at=None) for place, s in found.items()}


def grow(log: Log, data: st.DataObject) -> None:
    """Append to branches and fork them, in any order, with checkpoints made by hand now and then."""
    append(log, data.draw(HISTORIES))
    known = ["main"]
    for name in data.draw(st.lists(st.sampled_from(BRANCHES[1:]), max_size=4)):
        parent = data.draw(st.sampled_from(known))
        last = next(b.last_seq for b in log.branches("r") if b.branch == parent)
        try:
            log.fork("r", parent=parent, branch=name, to=data.draw(st.integers(0, last)))
            known.append(name)
        except BranchExistsError:  # the same name was drawn twice
            pass
        except CompactedError:
            continue
        for branch in data.draw(st.lists(st.sampled_from(known), max_size=2)):
            append(log, data.draw(HISTORIES), branch=branch)
        if data.draw(st.booleans()) and log.branches("r")[0].last_seq:
            log.snapshot("r", branch=data.draw(st.sampled_from(known)))


def states(log: Log, cuts: dict[str, int]) -> dict[tuple[str, int], Any]:
    """Return the state at every cursor that can be replayed, of every branch."""
    found = {}
    last = max((b.last_seq for b in log.branches("r")), default=0)
    for info in log.branches("r"):
        for seq in range(cuts.get(info.branch, 0), last + 1):
            found[info.branch, seq] = rebuild_state(log.reader, "r", info.branch, seq)
    return found


def cuts_of(log: Log) -> dict[str, int]:
    """Return the oldest cursor of every branch."""
    bases = {b.branch: log.reader.base(log.reader.branch_id("r", b.branch)) for b in log.branches("r")}
    return {branch: base.seq for branch, base in bases.items() if base is not None}


def rows(log: Log) -> list[list[Any]]:
    """Return everything that a compaction may touch."""
    tables = ("events", "contents", "retained", "snapshots", "paths", "names", "branches")
    return [log.reader.query(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]


@EXAMPLES
@given(st.data())
def test_every_cursor_that_is_left_has_the_state_it_had(data: st.DataObject) -> None:
    """The law compaction stands on; earlier cursors are refused, never answered wrongly."""
    with new_log(5, 0) as log:
        grow(log, data)
        before = states(log, {})
        report = log.compact(data.draw(CUTS))
        cuts = cuts_of(log)
        after = states(log, cuts)

        assert [b.problem for b in report.branches if b.problem] == []
        assert after == {place: state for place, state in before.items() if place[1] >= cuts.get(place[0], 0)}
        for branch, seq in cuts.items():
            with pytest.raises(CompactedError):
                rebuild_state(log.reader, "r", branch, seq - 1)


@EXAMPLES
@given(st.data())
def test_compacting_twice_is_compacting_once(data: st.DataObject) -> None:
    """Nothing is left for the second time, and it changes nothing."""
    with new_log(5, 0) as log:
        grow(log, data)
        kept = data.draw(CUTS)
        log.compact(kept)
        first = rows(log)
        report = log.compact(kept)

        assert report.branches == []
        assert rows(log) == first


@EXAMPLES
@given(st.data())
def test_a_compacted_log_goes_on_like_one_that_was_not(data: st.DataObject) -> None:
    """What is appended and forked afterwards is folded from the base as it would have been from the start."""
    with new_log(5, 0) as log, new_log(5, 0) as twin:
        history, later = data.draw(HISTORIES), data.draw(HISTORIES)
        for one in (log, twin):
            append(one, history)
            settle(one)
        log.compact(data.draw(CUTS))
        for one in (log, twin):
            append(one, renamed(later))
            one.fork("r", branch="a")
            append(one, later[:5], branch="a")

        cuts = {**dict.fromkeys("a", max(cuts_of(log).values(), default=0)), **cuts_of(log)}
        assert timeless(states(log, cuts)) == timeless(states(twin, cuts))


@EXAMPLES
@given(st.data())
def test_nothing_that_is_left_refers_to_what_is_gone(data: st.DataObject) -> None:
    """Contents, names and paths are collected only when nothing mentions them."""
    with new_log(5, 0) as log:
        grow(log, data)
        log.compact(data.draw(CUTS))

        for table, column in (("names", "type"), ("paths", "path")):
            missing = f"SELECT {column} FROM events WHERE {column} <> 0 AND {column} NOT IN (SELECT id FROM {table})"
            assert log.reader.query(missing) == []
        assert log.reader.query("SELECT 1 FROM retained WHERE seq NOT IN (SELECT seq FROM events)") == []
