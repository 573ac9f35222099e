"""A value in the forms in which texts hold it."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eventlog.errors import EventFormatError
from eventlog.forgetting.needle import MARKER, Needle

SECRET = 'Qu"iet/Otter\\47+1é'
HASH = "abcd" * 6
EVERYWHERE: dict[str, Any] = {
    "plain": f"see {SECRET}.",
    "inside JSON": json.dumps({"q": SECRET}),
    "inside JSON in JSON": json.dumps(json.dumps({"q": SECRET}, ensure_ascii=False), ensure_ascii=False),
    "in a URL": f"https://x/?q={quote(SECRET, safe='')}",
    "base64": base64.b64encode(f"u:{SECRET}".encode()).decode(),
    "in a list": [1, [SECRET]],
    "as a key": {SECRET: 1},
    "bytes": {"$bytes": base64.b64encode(SECRET.encode()).decode()},
}


@pytest.mark.parametrize("where", EVERYWHERE)
def test_it_is_found_in_every_form(where: str) -> None:
    """Also through the JSON text that a row holds; what is left is JSON."""
    raw = json.dumps({"field": EVERYWHERE[where], "other": "stays"}, ensure_ascii=False)
    cleaned = Needle(SECRET).clean_json(raw)

    assert cleaned is not None
    assert MARKER in cleaned
    assert json.loads(cleaned)["other"] == "stays"
    assert Needle(SECRET).clean_json(cleaned) is None


def test_a_number_is_found_as_a_whole() -> None:
    """A PIN may be stored as a number; a number that only contains it is another number."""
    cleaned = Needle("471100").clean_json('{"pin":471100,"n":4711001,"t":true}')

    assert cleaned == f'{{"pin":"{MARKER}","n":4711001,"t":true}}'


@pytest.mark.parametrize("node", [{"$content": HASH}, {"$content": HASH, "n": 3}, {"$content": HASH, "first": 9}])
def test_a_reference_is_never_changed(node: dict[str, Any]) -> None:
    """A short value stands in a hash by chance."""
    assert Needle("abcd").clean_tree([node]) == [node]


def test_two_keys_stay_two() -> None:
    """Nothing is lost where two keys become the same."""
    assert Needle(SECRET).clean_tree({SECRET: 1, MARKER: 2}) == {MARKER: 1, f"{MARKER}'": 2}


def test_what_is_printed_by_accident_does_not_hold_it() -> None:
    """A needle in a traceback or a log line."""
    assert SECRET not in repr(Needle(SECRET))


def test_a_text_that_is_no_json_is_an_error() -> None:
    """A damaged row that may hold it is told, not skipped."""
    with pytest.raises(EventFormatError):
        Needle(SECRET).clean_json(f'{{"a": "{SECRET}')


@given(st.recursive(st.text(max_size=8), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner)))
def test_what_does_not_hold_it_is_left_alone(tree: Any) -> None:
    """No false alarm, whatever the tree."""
    assume(SECRET not in repr(tree))

    assert Needle(SECRET).clean_tree(tree) == tree
