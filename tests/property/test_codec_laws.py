"""Laws of the encoder, over arbitrary values."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from eventlog.codec import Encoder
from eventlog.nesting import decode_payload
from eventlog.pieces import join_pieces, split_text
from eventlog.redact import NoRedactor, Redactor
from eventlog.values import resolve

texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=30,
)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.timedeltas()
    | st.uuids()
    | st.decimals()
    | st.complex_numbers()
    | st.builds(object)
    | st.builds(ValueError, st.text()),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.binary(), inner)
        | st.sets(st.text())
    ),
    max_leaves=30,
)


def round_trip(fields: dict[str, Any]) -> Any:
    """Encode with a redactor that leaves everything alone, decode with the contents made."""
    result = Encoder(NoRedactor()).encode(fields)
    bodies = {c.hash: c.body if c.kind == "text" else decode_payload(c.body.encode()) for c in result.new}
    return unescaped(resolve(decode_payload(result.payload), bodies.__getitem__))


def unescaped(tree: Any) -> Any:
    """Read ``$map`` back as the mapping it stands for; JSON values make no other tag."""
    if isinstance(tree, list):
        return [unescaped(item) for item in tree]
    if isinstance(tree, dict):
        pairs = tree["$map"] if "$map" in tree else tree.items()
        return {key: unescaped(value) for key, value in pairs}
    return tree


@given(json_values)
def test_every_value_json_can_carry_comes_back(value: Any) -> None:
    """decode(encode(x)) = x for JSON values, whatever their keys look like."""
    assert round_trip({"v": [value]}) == {"v": [value]}


@given(anything)
def test_nothing_makes_the_encoder_fail_and_the_result_is_json(value: Any) -> None:
    """Total: no value of the user's can break capture."""
    result = Encoder(Redactor()).encode({"v": value, "messages": [value, {"role": "user", "content": value}]})

    assert isinstance(json.loads(result.payload), dict)
    assert all(isinstance(c.body.encode(), bytes) for c in result.new)


@given(st.lists(st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": texts}), min_size=1), max_size=8))
def test_conversations_encoded_through_the_caches_read_the_same_as_without(conversations: list[Any]) -> None:
    """The prefix caches change what is stored again, never what is meant."""
    encoder = Encoder(NoRedactor())
    bodies: dict[str, Any] = {}
    for messages in conversations:
        result = encoder.encode({"messages": messages})
        result.publish()
        for c in result.new:
            bodies[c.hash] = c
        shown = []
        name = json.loads(result.payload)["messages"]["$content"]
        while name is not None:
            node = bodies[name]
            message = json.loads(node.body)
            if node.text:
                message["content"] = bodies[node.text].body
            shown.append(message)
            name = node.parent

        assert shown[::-1] == messages


@given(
    st.lists(st.text("ab", min_size=100, max_size=300), min_size=1, max_size=4),
    st.lists(st.integers(0, 5), max_size=5),
    st.text(),
)
def test_a_text_in_pieces_is_the_same_text(parts: list[str], order: list[int], extra: str) -> None:
    """join(split(x)) = x for any mixture of known and new text."""
    recent = [(f"h{i}", part) for i, part in enumerate(parts)]
    text = extra.join(parts[i % len(parts)] for i in order) + extra
    pieces = split_text(text, recent)

    assert pieces is None or join_pieces(pieces, dict(recent).__getitem__) == text
