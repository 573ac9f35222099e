"""Laws of forks: whatever the history and wherever the cut, the parent stays and the child begins with its state."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from eventlog.errors import EditError
from eventlog.record import StoredEvent
from eventlog.replay.downstream import Downstream
from eventlog.replay.fold import fold_events
from eventlog.replay.rebuild import rebuild_state
from eventlog.replay.task_index import TaskIndex
from tests.property.test_fold_laws import HISTORIES
from tests.property.test_snapshot_laws import EXAMPLES, append, new_log
from tests.verifying import query, unexpected

MAIN = "SELECT * FROM events WHERE branch IN (SELECT id FROM branches WHERE name = 'main') ORDER BY seq"


@EXAMPLES
@given(HISTORIES, HISTORIES, st.data())
def test_a_fork_leaves_its_parent_byte_identical(
    history: list[StoredEvent], later: list[StoredEvent], data: st.DataObject
) -> None:
    """However the child, and the child's child, go on; their chains hold, too."""
    with new_log(1_000, 4) as log:
        append(log, history)
        before = query(log.path, MAIN)
        cut = data.draw(st.integers(0, len(before)))
        log.fork("r", to=cut, branch="child")
        append(log, later, branch="child")
        log.fork("r", parent="child", to=data.draw(st.integers(0, len(before) + len(later))), branch="grandchild")
        append(log, later[:3], branch="grandchild")

        assert query(log.path, MAIN) == before
        assert list(unexpected(log.path)) == []


@EXAMPLES
@given(HISTORIES, st.integers(1, 5), st.data())
def test_a_child_begins_with_its_parents_state(history: list[StoredEvent], every: int, data: st.DataObject) -> None:
    """Whatever snapshots there are, and through several forks."""
    with new_log(every, 0) as log:
        append(log, history)
        cut = data.draw(st.integers(0, len(history) + 1))
        log.fork("r", to=cut, branch="a")
        log.fork("r", parent="a", branch="b")
        reader = log.reader
        parent, *children = (rebuild_state(reader, "r", branch, cut) for branch in ("main", "a", "b"))

        assert [msgspec.structs.replace(child, branch="main") for child in children] == [parent, parent]


@EXAMPLES
@given(HISTORIES, st.data())
def test_an_edited_task_is_completed_with_its_text(history: list[StoredEvent], data: st.DataObject) -> None:
    """Whatever the task's state was; the others of its execution are untouched or pending."""
    with new_log(1_000, 4) as log:
        append(log, history)
        tasks = rebuild_state(log.reader, "r", "main").tasks
        if not tasks:
            return
        number = data.draw(st.integers(1, len(tasks)))
        try:
            log.fork("r", branch="x", outputs={f"#{number}": "EDITED"})
        except EditError:
            return
        found = rebuild_state(log.reader, "r", "x").tasks

        assert (found[number - 1].status, found[number - 1].output) == ("completed", "EDITED")
        assert all(
            new.status in (old.status, "pending")
            for n, (old, new) in enumerate(zip(tasks, found, strict=True), 1)
            if n != number
        )


@given(HISTORIES, st.data())
def test_every_task_is_found_at_its_place(history: list[StoredEvent], data: st.DataObject) -> None:
    """Edits name tasks by their place."""
    state = fold_events(history, run="r", branch="main")
    tasks = TaskIndex(state.tasks)
    for row in state.tasks:
        assert tasks.by_place(tasks.place_of(row)) is row
    places = [tasks.place_of(row) for row in state.tasks]
    edited = data.draw(st.sets(st.sampled_from(places), max_size=3)) if places else set()
    reset = Downstream(state, {}).to_reset(edited, [], state.root)

    assert len(set(places)) == len(places)
    assert not edited & set(reset)
    assert set(reset) <= set(places)


def test_a_fork_costs_the_same_however_long_the_log_is() -> None:
    """One row is written, whether ten events came before or three thousand."""
    written = []
    with new_log(10**6, 4) as log:
        db = log.writer.pipeline._connected().db
        for events in (10, 3_000):
            log.append_many([("y.z", {"n": n}) for n in range(events)], run="r")
            before = db.total_changes
            log.fork("r")
            written.append(db.total_changes - before)

    assert written == [1, 1]
