"""In ``batch`` mode a plain payload is copied when it is emitted, and encoded when it is written."""

from __future__ import annotations

import signal
import sqlite3
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from crewai.events.base_events import BaseEvent
from crewai.events.event_bus import crewai_event_bus as bus
from crewai.events.types.llm_events import LLMCallStartedEvent
from crewai.flow.flow import Flow, start
from pydantic import BaseModel, PrivateAttr

import eventlog
from eventlog.append import Appender
from eventlog.capture.freezing import TALKS_BYTES_MAX, VALUES_MAX, Freezer
from eventlog.capture.headers import HEADER_FIELDS, header_copy
from eventlog.codec import AsContent
from eventlog.items import Item
from eventlog.record import NewEvent

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


class Word(BaseModel):
    """The state of a flow."""

    line: str = ""


class Telling(Flow[Word]):
    """Says a secret before anybody knows that it is one."""

    @start()
    def go(self) -> None:
        """Emit an event that says so."""
        self.state.line = "the word is Zanzibar-quartz-77"
        bus.emit(None, NoteEvent(data={"password": "Zanzibar-quartz-77"}))


def test_a_secret_is_found_in_what_is_stored_with_the_event_that_tells_it(log: eventlog.Log) -> None:
    """The state of a flow is sampled before the event."""
    with log.run("r"):
        Telling().kickoff()

    assert payloads(log, "eventlog.flow_state")[-1]["set"] == {"line": "the word is [redacted:value]"}
    assert not any(b"Zanzibar" in file.read_bytes() for file in Path(log.path).parent.glob("log.db*"))


def test_an_event_that_cannot_be_stored_takes_nothing_with_it(
    log: eventlog.Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those in its group that took its text for stored bring it themselves."""
    make_row = Appender._row

    def refuse(appender: Appender, seq: int, run: int, branch: int, event: NewEvent) -> Any:
        if event.event_id == "bad":
            raise OverflowError("it fits nowhere")
        return make_row(appender, seq, run, branch, event)

    monkeypatch.setattr(Appender, "_row", refuse)
    with log.run("r"):
        bus.emit(None, NoteEvent(data={"text": LONG}, event_id="bad"))
        for _ in range(2):
            bus.emit(None, NoteEvent(data={"text": LONG}))
    log.flush()

    assert log.status().failed == 1
    assert payloads(log, "user_note") == [{"data": {"text": LONG}}] * 2
    assert log.verify(deep=True).ok


def test_a_date_that_no_clock_shows_and_an_id_that_is_no_text_are_stored_all_the_same(log: eventlog.Log) -> None:
    """As now, and as what can be written of it."""
    far = NoteEvent(data=1, event_id="odd \ud800")
    far.timestamp = datetime(9000, 1, 1)  # noqa: DTZ001 - a naive one
    with log.run("r"):
        bus.emit(None, far)
        bus.emit(None, NoteEvent(data=2))

    assert [p["data"] for p in payloads(log, "user_note")] == [1, 2]
    assert log.status().failed == 0


class Roundabout(NoteEvent):
    """Reads a header field from a private attribute."""

    type: str = "roundabout"
    _role: Any = PrivateAttr(default="me")

    def __getattribute__(self, name: str) -> Any:
        """Answer for the role."""
        return self._role if name == "agent_role" else super().__getattribute__(name)


def test_what_an_event_keeps_privately_is_there_when_it_is_encoded(log: eventlog.Log) -> None:
    """The copy of a header has it, too."""
    with log.run("r"):
        bus.emit(None, Roundabout(agent_id="7"))

    assert [event.agent_role for event in log.events("r", types=["roundabout"])] == ["me"]


def test_the_copy_of_a_header_keeps_no_payload_alive() -> None:
    """The original's lists and dicts do not count against the bound of the queue."""
    event = NoteEvent(data={"text": LONG}, agent_role="writer")

    kept = vars(header_copy(event))
    assert kept["agent_role"] == "writer"
    assert kept.keys() <= HEADER_FIELDS - {"from_task", "from_agent"}


def test_what_cannot_be_encoded_later_was_not_captured(log: eventlog.Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted as failed, once."""
    with log.run("r"):
        before = log.status()
        bus.emit(None, NoteEvent(data={"text": "x"}))
        monkeypatch.setattr(log.writer.encoder, "encode", lambda _fields: 1 / 0)
        log.flush()
        monkeypatch.undo()
        after = log.status()

    assert (after.captured - before.captured, after.failed - before.failed) == (0, 1)


def test_a_dict_that_another_thread_changes_is_stored(log: eventlog.Log) -> None:
    """In one of the states it had."""
    data = {f"k{number}": number for number in range(2_000)}
    stop = threading.Event()

    def change() -> None:
        number = 0
        while not stop.is_set():
            data[f"x{number % 500}"] = number
            data.pop(f"x{(number + 250) % 500}", None)
            number += 1

    thread = threading.Thread(target=change, daemon=True)
    thread.start()
    with log.run("r"):
        for _ in range(60):
            bus.emit(None, NoteEvent(data=data))
    stop.set()
    thread.join()

    assert len(payloads(log, "user_note")) == 60
    assert log.status().failed == 0


def test_what_waits_for_a_locked_file_is_counted_with_all_that_is_not_text(log: eventlog.Log) -> None:
    """Numbers and empty lists take memory as well: the queue stays within its bound."""
    path = Path(log.path)
    with log.run("r"):
        bus.emit(None, NoteEvent(data=0))
        log.flush()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        before = log.status().queued
        for _ in range(10):
            bus.emit(None, NoteEvent(data={"x": [[] for _ in range(5_000)], "y": [1.5] * 5_000}))
        waiting = log.writer.pipeline._queued
        other.execute("ROLLBACK")
        other.close()

    assert before == 0
    assert waiting > 10 * (5_000 * 64 + 10_000 * 8)


@pytest.mark.parametrize("durability", ["batch", "commit"])
def test_what_comes_while_the_log_is_closed_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Any
) -> None:
    """The emitter was let into the queue, then another thread closed the log."""
    log = eventlog.open(tmp_path / "log.db", durability=durability)
    writer = log.writer
    admit = writer.pipeline._admit

    def admit_and_close(item: Item) -> bool:
        is_admitted = admit(item)
        thread = threading.Thread(target=writer.pipeline.close)
        thread.start()
        thread.join()
        return is_admitted

    with bus.scoped_handlers(), log.run("r"):
        bus.emit(None, NoteEvent(data=1))
        log.flush()
        before = writer.status()
        monkeypatch.setattr(writer.pipeline, "_admit", admit_and_close)
        bus.emit(None, NoteEvent(data=2))
        monkeypatch.undo()
        after = writer.status()
    log.close()

    assert (after.failed - before.failed, after.queued) == (1, 0)


class Alarming(Exception):  # noqa: N818 - stands for whatever is interrupted while it is encoded
    """Rings an alarm the first time it is read."""

    rung = False

    def __str__(self) -> str:
        """Take long enough for the alarm."""
        if not self.rung:
            self.rung = True
            signal.raise_signal(signal.SIGUSR1)
        return "read"


def ring(_number: int, _frame: Any) -> None:
    """Raise what an alarm raises."""
    raise TimeoutError("the user's")


def test_an_alarm_in_the_middle_of_an_encoding_comes_out(log: eventlog.Log) -> None:
    """After the event was stored, whole."""
    former = signal.signal(signal.SIGUSR1, ring)
    try:
        with log.run("r"), pytest.raises(TimeoutError, match="the user's"):
            bus.emit(None, NoteEvent(data=[Alarming()]))
    finally:
        signal.signal(signal.SIGUSR1, former)

    (payload,) = payloads(log, "user_note")
    assert payload["data"][0]["msg"] == "read"


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
    assert frozen.bytes >= 2 * len(LONG)


def test_the_copies_of_conversations_are_bounded_whatever_is_in_them() -> None:
    """Numbers count as well as text."""
    freezer = Freezer()
    for number in range(100):
        message = {"role": "user", "content": f"hello {number}", "tokens": [float(n + number) for n in range(2_000)]}
        assert freezer.freeze({"messages": [message]}) is not None

    held = len({**freezer._talks._young, **freezer._talks._old})
    assert held * 2_000 * 24 <= 2 * TALKS_BYTES_MAX


class Odd:
    """Cannot be compared."""

    def __eq__(self, other: object) -> bool:
        """Fail, as an array does in an ``if``."""
        raise ValueError("ambiguous")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("durability", ["batch", "commit"])
def test_numbers_that_are_equal_are_not_the_same(tmp_path: Path, durability: Any) -> None:
    """Each of these conversations is stored as it was; so is one that cannot be compared."""
    values: list[Any] = [1, True, 1.0, 0.0, -0.0, "1", Odd(), 10**400, 1, [1], [True], {"n": 1}, {"n": 1.0}]
    with eventlog.open(tmp_path / "log.db", durability=durability) as log, bus.scoped_handlers(), log.run("r"):
        for number, value in enumerate(values):
            messages = [{"role": "user", "content": LONG, "n": value}]
            bus.emit(None, LLMCallStartedEvent(messages=messages, model="m", call_id=str(number)))
        told = [p["messages"][0]["n"] for p in payloads(log, "llm_call_started")]
        failed = log.status().failed

    assert len(told) == len(values)
    del told[6:8], values[6:8]  # an object, and a number that has a tag
    assert [repr(value) for value in told] == [repr(value) for value in values]
    assert failed == 0


@pytest.mark.parametrize(
    "value", [object(), {1}, b"x", (1,), [[[object()]]], [{}] * (VALUES_MAX + 1), pytest.param(1 << 2_000, id="huge")]
)
def test_what_cannot_be_copied_is_refused(value: Any) -> None:
    """Objects, and more than is worth it."""
    assert Freezer().freeze({"v": value}) is None


def test_a_value_that_contains_itself_is_refused() -> None:
    """Copying it would not end."""
    value: list[Any] = []
    value.append(value)

    assert Freezer().freeze({"v": value}) is None
