"""The encoder: any Python value becomes JSON, and never fails."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import json
import math
import pathlib
import uuid
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from eventlog.codec import DEPTH_MAX, AsContent, Encoder, Request
from eventlog.contents import TEXT_CHARS_MIN
from eventlog.nesting import decode_payload
from eventlog.record import FLAG_PLACEHOLDER, FLAG_REDACTED
from eventlog.redact import Redactor
from eventlog.values import plain, resolve


class Colour(enum.Enum):
    """An enumeration of texts."""

    RED = "red"


class Level(enum.IntEnum):
    """An enumeration that is also an int."""

    LOW = 1


class Model(BaseModel):
    """A model of the user's."""

    name: str
    child: Any = None


@dataclasses.dataclass
class Point:
    """A data class."""

    x: int
    y: float


class Hostile:
    """An object whose repr raises."""

    def __repr__(self) -> str:
        """Fail."""
        raise RuntimeError("no repr")


class HostileError(Exception):
    """An error whose str raises."""

    def __str__(self) -> str:
        """Fail."""
        raise RuntimeError("no str")


def encoded(value: Any) -> Any:
    """Return the tree of one value."""
    return decode_payload(Encoder(Redactor()).encode({"v": value}).payload)["v"]


def stored(encoder: Encoder, fields: dict[str, Any]) -> Any:
    """Encode, then decode with the contents that were made."""
    result = encoder.encode(fields)
    bodies: dict[str, Any] = {}
    for content in result.new:
        bodies[content.hash] = content.body if content.kind == "text" else decode_payload(content.body.encode())
    return resolve(decode_payload(result.payload), bodies.__getitem__)


NAMED = [
    (float("nan"), {"$float": "nan"}),
    (-math.inf, {"$float": "-inf"}),
    (2**64, {"$int": hex(2**64)}),
    (-(2**70), {"$int": hex(-(2**70))}),
    ((1, "a"), {"$tuple": [1, "a"]}),
    ({3}, {"$set": [3]}),
    (frozenset({"a"}), {"$set": ["a"]}),
    (b"\x00\xff", {"$bytes": base64.b64encode(b"\x00\xff").decode()}),
    (Colour.RED, {"$enum": f"{__name__}:Colour", "v": "red"}),
    (Level.LOW, {"$enum": f"{__name__}:Level", "v": 1}),
    (decimal.Decimal("1.10"), {"$decimal": "1.10"}),
    (uuid.UUID(int=5), {"$uuid": str(uuid.UUID(int=5))}),
    (pathlib.PurePosixPath("/a/b"), {"$path": "/a/b"}),
    (datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc), {"$datetime": "2026-01-02T03:04:05+00:00"}),
    (datetime.date(2026, 1, 2), {"$date": "2026-01-02"}),
    (datetime.time(1, 2), {"$time": "01:02:00"}),
    (datetime.timedelta(seconds=90), {"$timedelta": 90.0}),
    (int, {"$type": "builtins:int"}),
    (len, {"$function": "builtins:len"}),
    (Model(name="a"), {"$model": f"{__name__}:Model", "fields": {"name": "a", "child": None}}),
    (Point(1, 2.0), {"$dataclass": f"{__name__}:Point", "fields": {"x": 1, "y": 2.0}}),
    (ValueError("x", 3), {"$error": "builtins:ValueError", "msg": "('x', 3)", "args": ["x", 3]}),
    ({1: "a"}, {"$map": [[1, "a"]]}),
    ({"$ref": 1}, {"$map": [["$ref", 1]]}),
    ("\ud800", {"$str": base64.b64encode("\ud800".encode("utf-8", "surrogatepass")).decode()}),
]


@pytest.mark.parametrize(("value", "tree"), NAMED, ids=[type(v).__name__ + str(i) for i, (v, _) in enumerate(NAMED)])
def test_a_value_json_has_no_place_for_is_tagged(value: Any, tree: Any) -> None:
    """Each kind of value says what it was, in a form no reader has to execute."""
    assert encoded(value) == tree


@pytest.mark.parametrize(
    "value", ["", "a\x00b", "üñí", 0, -1, 2**63 - 1, 1.5, True, None, [], {}, [[{}]], {"a": {"b": [1]}}]
)
def test_a_json_value_stays_what_it_is(value: Any) -> None:
    """What JSON can carry is not wrapped."""
    assert encoded([value]) == [value]


def test_an_object_whose_repr_raises_becomes_a_placeholder_and_a_flag() -> None:
    """A hostile object costs its own content, not the event."""
    result = Encoder(Redactor()).encode({"ok": 1, "bad": Hostile()})

    assert json.loads(result.payload)["bad"]["repr"] == "<repr raised RuntimeError>"
    assert json.loads(result.payload)["ok"] == 1
    assert result.flags & FLAG_PLACEHOLDER


def test_an_error_whose_str_raises_is_kept_by_class() -> None:
    """Errors of the user's are where things go wrong twice."""
    assert encoded(HostileError("x"))["$error"] == f"{__name__}:HostileError"


def test_a_value_that_contains_itself_ends_in_a_cycle_tag() -> None:
    """Cycles through lists, dicts, models and errors end."""
    loop: list[Any] = []
    loop.append({"again": loop})
    model = Model(name="a")
    model.child = model
    error = ValueError()
    error.args = (error,)

    assert encoded(loop) == [{"again": {"$cycle": "builtins:list"}}]
    assert encoded(model)["fields"]["child"] == {"$cycle": f"{__name__}:Model"}
    assert encoded(error)["args"] == [{"$cycle": "builtins:ValueError"}]


def test_the_same_object_twice_is_no_cycle() -> None:
    """Only ancestors count."""
    shared = [1]

    assert encoded([shared, shared]) == [[1], [1]]


def test_very_deep_values_are_cut_and_flagged() -> None:
    """A reader that recurses must survive what we write."""
    deep: Any = "x"
    for _ in range(10_000):
        deep = [deep]
    result = Encoder(Redactor()).encode({"v": deep})

    assert b"$deep" in result.payload
    assert result.payload.count(b"[") <= DEPTH_MAX
    assert result.flags & FLAG_PLACEHOLDER


def test_a_secret_string_object_is_never_written() -> None:
    """``SecretStr`` of pydantic says it itself."""
    result = Encoder(Redactor()).encode({"note": SecretStr("hunter2hunter2")})

    assert b"hunter2" not in result.payload
    assert result.flags & FLAG_REDACTED


def test_a_field_that_is_none_is_left_out() -> None:
    """Absent means None; CrewAI's events are mostly None."""
    assert Encoder(Redactor()).encode({"a": None, "b": 1}).payload == b'{"b":1}'


def test_a_long_text_is_stored_once() -> None:
    """The second event of the same text carries a reference and no body."""
    encoder, text = Encoder(Redactor()), "x y " * TEXT_CHARS_MIN
    first = encoder.encode({"a": text, "b": text})
    first.publish()
    second = encoder.encode({"c": [text]})

    assert [c.kind for c in first.new] == ["text"]
    assert second.new == []
    assert text.encode() not in first.payload


def test_contents_of_an_event_that_was_not_queued_are_not_taken_for_known() -> None:
    """Otherwise an event could refer to a body that nobody stored."""
    encoder, text = Encoder(Redactor()), "x" * TEXT_CHARS_MIN
    encoder.encode({"a": text})

    assert len(encoder.encode({"a": text}).new) == 1


def test_ten_megabytes_of_text_and_nul_characters_round_trip() -> None:
    """Size and NUL are where storage layers cut."""
    big, odd = "é" * 10_000_000, "a\x00b" * 200

    assert stored(Encoder(Redactor()), {"big": big, "odd": odd}) == {"big": big, "odd": odd}


def test_a_growing_conversation_costs_only_its_new_messages() -> None:
    """The k-th call stores one node, not k."""
    encoder = Encoder(Redactor())
    messages: list[dict[str, Any]] = [{"role": "system", "content": "s"}]
    made = []
    for number in range(50):
        messages.append({"role": "user", "content": f"message {number}"})
        result = encoder.encode({"messages": [dict(m) for m in messages]})
        result.publish()
        made.append(len(result.new))

    assert made == [2] + [1] * 49


def test_a_changed_message_starts_a_new_chain_from_there() -> None:
    """Equal prefix is shared, the rest is not mistaken for it."""
    encoder = Encoder(Redactor())
    base = [{"role": "user", "content": c} for c in "abcdef"]
    encoder.encode({"messages": base}).publish()
    changed = [*base[:4], {"role": "user", "content": "X"}, base[5]]

    assert len(encoder.encode({"messages": changed}).new) == 2


def test_a_message_changed_in_place_after_it_was_encoded_is_seen() -> None:
    """The cache compares with private copies, never with the user's own dicts."""
    encoder = Encoder(Redactor())
    messages = [{"role": "user", "content": "a", "tool_calls": [{"id": "1"}]}]
    encoder.encode({"messages": messages}).publish()
    messages[0]["tool_calls"][0]["id"] = "2"  # type: ignore[index]

    assert len(encoder.encode({"messages": messages}).new) == 1


def test_a_text_made_of_recent_texts_is_stored_in_pieces_and_reads_the_same() -> None:
    """A ReAct message repeats the response and the tool's output: neither is stored again."""
    encoder = Encoder(Redactor())
    response, output = "thought " * 60, "result " * 80
    for text in (response, output):
        encoder.encode({"t": text}).publish()
    result = encoder.encode({"m": response + "\nObservation: " + output})

    assert [c.kind for c in result.new] == ["pieces"]
    assert len(result.new[0].body) < 200


def test_content_json_is_resolved_like_any_other_value() -> None:
    """``AsContent`` keeps a value once, and it reads as if it stood there."""
    assert stored(Encoder(Redactor()), {"d": AsContent({"a": [1, "b" * 300]})}) == {"d": {"a": [1, "b" * 300]}}


def test_a_request_has_the_same_name_when_only_ids_times_and_addresses_differ() -> None:
    """They are new in every process; the words are the same."""
    names = set()
    for mark in (
        "6f1c2a34-0000-4000-8000-000000000001 2026-01-01T00:00:00Z <tool at 0x7f0011223344>",
        "aaaaaaaa-0000-4000-8000-000000000002 2027-05-05T10:00:01Z <tool at 0x7fffffff0000>",
    ):
        message = {"role": "user", "content": "find the record " * 40 + mark}
        names.add(Encoder(Redactor()).request_name(Request([message], None, "m", None)))

    assert len(names) == 1


def test_requests_that_differ_in_words_tools_or_model_have_different_names() -> None:
    """A name is only useful if it tells requests apart."""

    def name(text: str = "a", tools: Any = None, model: str = "m") -> str:
        return Encoder(Redactor()).request_name(Request([{"role": "user", "content": text}], tools, model, None))

    assert len({name(), name("b"), name(tools=[{"name": "t"}]), name(model="n")}) == 4


def test_plain_reads_every_tag_this_encoder_makes() -> None:
    """What we write, our reader shows without a tag in it (placeholders aside)."""
    unreadable = (b"\x00\xff", int, len, {"$ref": 1})
    shown = plain(encoded([value for value, _ in NAMED if value not in unreadable]))

    assert "$" not in json.dumps(shown)
