"""Two histories of one execution: what counts as the same, and which difference comes first."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from eventlog.record import FLAG_OMITTED, FLAG_REPLAYED, StoredEvent
from eventlog.resume.compare import Difference, Side, compare, omitted_types
from eventlog.resume.history import busy_tools, outside_of_answers, stretches, told_once

ROOT = "/crew:c#0"


def event(path: str, kind: str = "said", seq: int = 0, flags: int = 0, **payload: Any) -> StoredEvent:
    """Return an event of the execution."""
    return StoredEvent(
        seq=seq, event_id=f"e{seq}{path}{kind}", type=kind, at_ns=0, run="r", branch="main", path=ROOT + path,
        flags=flags, payload=msgspec.json.encode(payload),
    )  # fmt: skip


def numbered(*events: StoredEvent) -> list[StoredEvent]:
    """Return the events with seqs in their order."""
    return [msgspec.structs.replace(e, seq=n + 1) for n, e in enumerate(events)]


Contents = dict[str, Any]


def difference(
    then: list[StoredEvent], now: list[StoredEvent], left: Contents | None = None, right: Contents | None = None
) -> Difference | None:
    """Compare; ``left`` and ``right`` are the contents that references name."""
    omitted = omitted_types(then)
    first, second = (left or {}), (right or {})
    return compare(Side(then, ROOT, first.__getitem__, omitted), Side(now, ROOT, second.__getitem__, omitted))


def test_scopes_that_ran_at_the_same_time_may_change_places() -> None:
    """Their number is the order in which they began; what they tell is the same."""
    then = numbered(event("/llm#0", text="a"), event("/llm#1", text="b"))
    now = numbered(event("/llm#0", text="b"), event("/llm#1", text="a"))

    assert difference(then, now) is None


def test_events_of_one_scope_may_not() -> None:
    """One scope is one lane: its order is the order of the code."""
    then = numbered(event("", text="a"), event("", text="b"))
    found = difference(then, then[::-1])

    assert found is not None
    assert (found.at, found.expected, found.actual) == ("text@0", "a", "b")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"id": "0b8f3c1e-8a52-4a4e-9f3e-3a2b1c4d5e6f"}, {"id": "1b8f3c1e-8a52-4a4e-9f3e-3a2b1c4d5e6f"}),
        ({"elapsed_ms": 12.5}, {"elapsed_ms": 99}),
        ({"at": "2026-01-15T10:00:00Z"}, {"at": "2026-01-16T11:00:00Z"}),
        ({"repr": "<f at 0x7f82fc8c60c0>"}, {"repr": "<f at 0x7f82fc7b1da0>"}),
        ({"token_usage": {"total_tokens": 5}}, {"token_usage": {"total_tokens": 9}}),
        ({"text": {"$content": "x"}}, {"text": {"$content": "y"}}),
    ],
)
def test_what_is_new_in_every_process_does_not_count(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Also not inside long texts, which have another reference then."""
    contents = {"x": "flow 0b8f3c1e-8a52-4a4e-9f3e-3a2b1c4d5e6f"}, {"y": "flow 1b8f3c1e-8a52-4a4e-9f3e-3a2b1c4d5e6f"}

    assert difference([event("", **old)], [event("", **new)], *contents) is None


def test_what_a_reference_stands_for_counts() -> None:
    """One message of a conversation differs."""
    left = {"x": [{"role": "user", "content": "Say this"}]}
    right = {"y": [{"role": "user", "content": "Say that"}]}
    then, now = ([event("", messages={"$content": name, "n": 1})] for name in "xy")
    found = difference(then, now, left, right)

    assert found is not None
    assert found.at == "messages[0].content@6"


def test_the_first_difference_is_the_one_that_was_recorded_first() -> None:
    """Whatever the scopes are called."""
    then = numbered(event("/z#0", text="a"), event("/a#0", text="a"))
    now = numbered(event("/z#0", text="b"), event("/a#0", text="b"))
    found = difference(then, now)

    assert found is not None
    assert found.path == ROOT + "/z#0"


@pytest.mark.parametrize("side", [0, 1])
def test_what_only_one_tells_is_a_difference(side: int) -> None:
    """More is as different as less."""
    both = numbered(event("", text="a")), numbered(event("", text="a"), event("/task[k]#0", "task_started", name="t"))
    found = difference(both[side], both[1 - side])

    assert found is not None
    assert (found.path, found.event) == (ROOT + "/task[k]#0", "task_started")
    assert [found.expected, found.actual].count(None) == 1


def test_of_an_omitted_payload_only_the_type_counts() -> None:
    """Nothing else is on record."""
    then = [event("", flags=FLAG_OMITTED)]

    assert difference(then, [event("", text="anything")]) is None
    assert difference(then, [event("", "another")]) is not None


def test_a_kept_task_is_told_by_the_process_that_did_it() -> None:
    """The second process says the crew's part again and leaves the finished task out."""
    done = [event("", "crew_started"), event("/task[a]#0", "task_started"), event("/task[a]#0/llm#0", "llm")]
    given_up = [event("/task[b]#0", "task_started"), event("/task[b]#0/llm#0", "half")]
    resumed = event("", "eventlog.resumed")
    rest = [
        event("", "crew_started", flags=FLAG_REPLAYED), event("/task[b]#0", "task_started", flags=FLAG_REPLAYED),
        event("/task[b]#0/llm#0", "whole"), event("", "crew_ended"),
    ]  # fmt: skip
    parts = stretches(numbered(*done, *given_up, resumed, *rest), ROOT)
    told = told_once(parts, lambda _place: True)

    assert [(e.path[len(ROOT) :], e.type) for e in told] == [
        ("/task[a]#0", "task_started"), ("/task[a]#0/llm#0", "llm"), ("", "crew_started"),
        ("/task[b]#0", "task_started"), ("/task[b]#0/llm#0", "whole"), ("", "crew_ended"),
    ]  # fmt: skip
    assert [e.path for e in told_once(parts, lambda _place: False) if "task[a]" in e.path] == []


def test_a_tool_that_opens_scopes_is_busy_and_tells_what_it_tells() -> None:
    """Of any other only that it was used is told: its function does not run again."""
    events = numbered(
        event("/tool[x]#0", "tool_usage_started"), event("/tool[x]#0", "mine"), event("/tool[x]#0/crew:k#0", "inner"),
        event("/tool[y]#0", "tool_usage_started"), event("/tool[y]#0", "mine"),
    )  # fmt: skip
    busy = busy_tools(events)

    assert busy == {ROOT + "/tool[x]#0"}
    assert [e.type for e in outside_of_answers(events, busy)] == [
        "tool_usage_started", "mine", "inner", "tool_usage_started"
    ]  # fmt: skip
