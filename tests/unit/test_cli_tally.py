"""Sums over events."""

from __future__ import annotations

import msgspec

from eventlog.cli.tally import tally, total
from eventlog.record import StoredEvent


def events() -> list[StoredEvent]:
    """A task with two calls: one with events of its own, one that only the exchange tells of."""
    rows: list[tuple[str, int, dict[str, object], str | None]] = [
        ("task_started", 0, {}, None),
        ("llm_call_started", 1, {"model": "m"}, None),
        ("llm_call_completed", 3, {"model": "m", "usage": {"prompt_tokens": 5, "completion_tokens": 2}}, "e2"),
        ("eventlog.llm_exchange", 3, {"model": "m", "completed": "e3"}, None),
        ("eventlog.llm_exchange", 4, {"model": "silent", "usage": {"prompt_tokens": 1}}, None),
        ("task_completed", 10, {}, "e1"),
    ]
    return [
        StoredEvent(
            seq=n, event_id=f"e{n}", type=kind, at_ns=at * 10**9, run="r", branch="main", started_event_id=started,
            task_name="t", agent_role="A" if "llm" in kind else None, payload=msgspec.json.encode(payload),
        )
        for n, (kind, at, payload, started) in enumerate(rows, 1)
    ]  # fmt: skip


def test_tokens_are_counted_once() -> None:
    """An exchange repeats its call unless CrewAI said nothing of it."""
    by_model = {row.name: (row.llm_calls, row.tokens) for row in tally(events(), "model")}

    assert by_model == {"m": (1, 7), "silent": (1, 1)}


def test_time_goes_from_start_to_end() -> None:
    """Of what the grouping is about."""
    assert {row.name: row.busy_ns // 10**9 for row in tally(events(), "task")} == {"t": 10}
    assert {row.name: row.busy_ns // 10**9 for row in tally(events(), "model")} == {"m": 2, "silent": 0}
    assert {row.name: row.busy_ns // 10**9 for row in tally(events(), "type")}["llm_call_completed"] == 2


def test_groups_add_up_to_the_whole() -> None:
    """Grouped by type nothing is left out."""
    whole = total(tally(events(), "type"))

    assert (whole.events, whole.llm_calls, whole.tokens) == (6, 2, 8)
    assert whole.payload_bytes == sum(len(event.payload) for event in events())


def test_events_of_no_group_are_left_out() -> None:
    """An event without an agent belongs to none."""
    assert [(row.name, row.events) for row in tally(events(), "agent")] == [("A", 4)]
