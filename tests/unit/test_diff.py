"""Where two runs part ways."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from eventlog.replay.diff import Difference, diff_states, diff_trees, first_difference
from tests.unit.histories import CREW, History, finished_crew

UUIDS = ("0b9d7a6e-6f0e-4c58-9f0b-5a3f1f6f7a10", "5e0c1f55-0000-4c58-9f0b-5a3f1f6f7a11")


def one_event(**fields: Any) -> History:
    """Return a history of one tool call."""
    history = History()
    history.add("tool_usage_finished", CREW, tool_name="search", **fields)
    return history


def test_a_run_equals_its_repetition() -> None:
    """Ids, seqs and times are new each time; they are no difference."""
    left, right = finished_crew(), History()
    right.add("invoice.sent")
    right.events.clear()
    for event in left.events:
        later = msgspec.structs.replace(event, seq=event.seq + 100, event_id="x" + event.event_id, at_ns=7)
        right.events.append(msgspec.structs.replace(later, started_event_id=f"x{event.started_event_id}"))

    assert diff_states(left.state(), right.state()) == []
    assert first_difference(left.events, right.events) is None


def test_a_changed_output_is_named_by_its_place() -> None:
    """The reader goes straight to the task."""
    left, right = finished_crew().state(), finished_crew().state()
    right.tasks[1].output = "other"

    assert diff_states(left, right) == [Difference("tasks[1].output", "changed", "out b", "other")]


def test_states_may_be_given_as_resolved_dicts() -> None:
    """The border fills in large values first, so that they compare by what they say."""
    left = msgspec.to_builtins(finished_crew().state())
    right = msgspec.to_builtins(finished_crew().state())
    right["tasks"][0]["output"] = {"id": 1}
    left["tasks"][0]["output"] = {"id": 2}

    assert [d.path for d in diff_states(left, right)] == ["tasks[0].output.id"]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {}, [Difference("a", "removed", 1, None)]),
        ({}, {"a": None}, [Difference("a", "added", None, None)]),
        ([1, 2], [1], [Difference("[1]", "removed", 2, None)]),
        ([1], {"a": 1}, [Difference("", "changed", [1], {"a": 1})]),
        ({"a": True}, {"a": 1}, [Difference("a", "changed", True, 1)]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, [Difference("a[0].b", "changed", 1, 2)]),
    ],
)
def test_trees_differ_where_a_value_was_changed_removed_or_added(left: Any, right: Any, expected: Any) -> None:
    """A value that is missing is not the same as null."""
    assert diff_trees(left, right) == expected


def test_the_first_different_event_is_found_and_reading_stops_there() -> None:
    """Histories may be long; the difference is usually early."""
    left, right = finished_crew().events, finished_crew().events
    right[5] = msgspec.structs.replace(right[5], payload=b'{"model": "other"}')

    def endless() -> Any:
        yield from right[:6]
        pytest.fail("read on")

    found = first_difference(left, endless())

    assert found is not None
    assert (found.index, found.left, found.right) == (5, left[5], right[5])
    assert [d.path for d in found.differences][:1] == ["payload.model"]


def test_a_shorter_history_differs_at_its_end() -> None:
    """One run went on."""
    events = finished_crew().events

    found = first_difference(events[:3], events)

    assert found is not None
    assert (found.index, found.left, found.right, found.differences) == (3, None, events[3], [])


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"call_id": "1"}, {"call_id": "2"}),
        ({"started_at": {"$datetime": "x"}}, {"started_at": {"$datetime": "y"}}),
        ({"output": {"id": UUIDS[0]}}, {"output": {"id": UUIDS[1]}}),
        ({"output": "at 2026-01-15T10:00:00.5Z"}, {"output": "at 2026-01-16 11:00:00+01:00"}),
        ({"query_time_ms": 1.5}, {"query_time_ms": 2.5}),
    ],
    ids=["call id", "start", "uuid", "time", "duration"],
)
def test_ids_and_times_inside_payloads_are_no_difference(left: dict[str, Any], right: dict[str, Any]) -> None:
    """They change with every run of the same program."""
    assert first_difference(one_event(**left).events, one_event(**right).events) is None


@pytest.mark.parametrize("raw", [b"[1]", b"{", b"\xff", b"[" * 3000])
def test_malformed_payloads_are_compared_as_they_are(raw: bytes) -> None:
    """Comparing two strange files must not fail."""
    assert first_difference(one_event(raw=raw).events, one_event(raw=raw).events) is None
    assert first_difference(one_event(raw=raw).events, one_event(raw=b"{}").events) is not None
