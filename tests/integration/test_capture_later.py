"""In ``batch`` mode a plain payload is copied when it is emitted, and encoded when it is written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crewai.events.base_events import BaseEvent
from crewai.events.event_bus import crewai_event_bus as bus
from crewai.events.types.llm_events import LLMCallStartedEvent

import eventlog
from eventlog.capture.freezing import VALUES_MAX, Freezer
from eventlog.codec import AsContent

LONG = "a text that is kept among the contents, because it is long enough for that: " * 6


class NoteEvent(BaseEvent):
    """An event of a user's."""

    type: str = "user_note"
    data: Any = None


@pytest.fixture
def log(tmp_path: Path) -> Iterator[eventlog.Log]:
    """A log whose writer thread waits long enough for what a test does meanwhile."""
    with eventlog.open(tmp_path / "log.db", durability="batch", batch_ms=400) as made, bus.scoped_handlers():
        yield made


def payloads(log: eventlog.Log, event_type: str) -> list[Any]:
    """Return the payloads of the events of a type, in order."""
    return [event.payload for event in log.events("r", types=[event_type])]


def test_what_is_changed_after_the_emit_is_stored_as_it_was(log: eventlog.Log) -> None:
    """A dict, a list in it, and the event itself."""
    data = {"rows": [1, 2], "text": "before"}
    event = NoteEvent(data=data, agent_role="writer", agent_id="7")
    with log.run("r"):
        bus.emit(None, event)
        waiting = log.status().queued
        data["rows"].append(3)  # type: ignore[attr-defined]
        data["text"] = "after"
        event.data, event.agent_role, event.type = None, "other", "other"

    assert waiting > 0
    (stored,) = log.events("r", types=["user_note"])
    assert stored.payload == {"data": {"rows": [1, 2], "text": "before"}}
    assert stored.agent_role == "writer"


def test_messages_that_are_changed_in_place_are_stored_as_they_were(log: eventlog.Log) -> None:
    """A conversation grows in the very same list, whose messages somebody edits."""
    messages: list[Any] = [{"role": "user", "content": LONG}]
    with log.run("r"):
        for number in range(4):
            bus.emit(None, LLMCallStartedEvent(messages=messages, model="m", call_id=str(number)))
            messages.append({"role": "assistant", "content": f"{number} {LONG}"})
            messages[0]["role"] = f"edited {number}"

    told = [[(m["role"], m["content"]) for m in p["messages"]] for p in payloads(log, "llm_call_started")]
    answers = [("assistant", f"{number} {LONG}") for number in range(3)]
    firsts = ["user", "edited 0", "edited 1", "edited 2"]
    assert told == [[(first, LONG), *answers[:count]] for count, first in enumerate(firsts)]


def test_what_is_not_plain_is_encoded_at_once(log: eventlog.Log) -> None:
    """A set can be changed as well, and is not copied."""
    data = {1, 2}
    with log.run("r"):
        bus.emit(None, NoteEvent(data=data))
        data.add(3)

    assert payloads(log, "user_note") == [{"data": {"$set": [1, 2]}}]


def test_nothing_refers_to_a_body_that_comes_after_it(log: eventlog.Log) -> None:
    """Events encoded at once and later take turns with the same texts, in several threads."""

    def emit(number: int) -> None:
        for count in range(60):
            text = f"{count} {LONG}"
            data: Any = {"text": text, "more": {number}} if (count + number) % 2 else {"text": text}
            bus.emit(None, NoteEvent(data=data))
            messages = [{"role": "user", "content": text}, {"role": "user", "content": f"{number} {text}"}]
            bus.emit(None, LLMCallStartedEvent(messages=messages, model="m", call_id=f"{number}-{count}"))

    with log.run("r") as run:
        threads = [threading.Thread(target=run.bind(emit), args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    report = log.verify(deep=True)
    assert report.ok, report
    told = sorted(p["data"]["text"] for p in payloads(log, "user_note"))
    assert told == sorted(3 * [f"{count} {LONG}" for count in range(60)])
    assert [len(p["messages"]) for p in payloads(log, "llm_call_started")] == [2] * 180


def test_a_secret_that_is_learned_meanwhile_is_found(log: eventlog.Log) -> None:
    """What waits is cleaned of it, too."""
    with log.run("r"):
        bus.emit(None, NoteEvent(data={"line": "the word is Zanzibar-quartz-77"}))
        bus.emit(None, NoteEvent(data={"password": "Zanzibar-quartz-77", "set": {1}}))

    assert payloads(log, "user_note")[0] == {"data": {"line": "the word is [redacted:value]"}}


def test_appending_writes_what_waits_before_it(log: eventlog.Log) -> None:
    """An append returns after its commit, and the order is that of the program."""
    with log.run("r"):
        bus.emit(None, NoteEvent(data={"n": 1}))
        log.append("user.note", {"n": 2}, run="r")
        assert [e.type for e in log.events("r") if e.type in ("user_note", "user.note")] == ["user_note", "user.note"]


def test_a_copy_shares_no_container_with_the_original() -> None:
    """Texts are the same objects; dicts, lists and tool schemas are others."""
    fields = {"a": [{"b": LONG}], "tools": AsContent([{"name": "t"}]), "messages": [{"role": "user", "content": LONG}]}
    frozen = Freezer().freeze(fields)

    assert frozen is not None
    assert frozen.fields["a"] == fields["a"]
    assert frozen.fields["a"][0] is not fields["a"][0]  # type: ignore[index]
    assert frozen.fields["a"][0]["b"] is LONG
    assert frozen.fields["tools"].value is not fields["tools"].value  # type: ignore[attr-defined]
    assert frozen.fields["messages"][0] is not fields["messages"][0]  # type: ignore[index]
    assert frozen.chars >= 2 * len(LONG)


@pytest.mark.parametrize("value", [object(), {1}, b"x", (1,), [[[object()]]], [{}] * (VALUES_MAX + 1)])
def test_what_cannot_be_copied_is_refused(value: Any) -> None:
    """Objects, and more than is worth it."""
    assert Freezer().freeze({"v": value}) is None


def test_a_value_that_contains_itself_is_refused() -> None:
    """Copying it would not end."""
    value: list[Any] = []
    value.append(value)

    assert Freezer().freeze({"v": value}) is None
