"""Stored trees made whole and readable."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from eventlog import values
from eventlog.values import REFS_DEPTH_MAX, collect_refs, plain, resolve

CONTENTS: dict[str, Any] = {
    "text": "a long text",
    "tree": {"see": {"$content": "text"}, "list": [{"$content": "text"}]},
    "talk": [{"role": "user", "content": {"$content": "text"}}, {"role": "assistant", "content": "hi"}],
    "loop": [{"$content": "loop"}],
    "self": {"$content": "self"},
}


def deep(levels: int) -> Any:
    """Return lists in lists."""
    tree: Any = []
    for _ in range(levels):
        tree = [tree]
    return tree


def test_references_are_found_wherever_they_stand() -> None:
    """The border reads them in one batch before it resolves."""
    tree = {"a": {"$content": "x"}, "b": [{"c": {"$content": "y", "n": 3}}], "d": {"$content": 7}, "$content": "no"}

    assert collect_refs(tree) == {"x", "y"}


def test_resolving_fills_in_texts_trees_and_conversations() -> None:
    """Contents may themselves refer to contents."""
    tree = {"t": {"$content": "tree"}, "m": {"$content": "talk", "n": 2}, "n": 1}

    assert resolve(tree, CONTENTS.__getitem__) == {
        "t": {"see": "a long text", "list": ["a long text"]},
        "m": [{"role": "user", "content": "a long text"}, {"role": "assistant", "content": "hi"}],
        "n": 1,
    }


def test_resolving_changes_neither_the_tree_nor_the_contents() -> None:
    """Both are shared: one is the fold's state, the other may be cached."""
    tree = {"t": {"$content": "tree"}}

    resolve(tree, CONTENTS.__getitem__)

    assert tree == {"t": {"$content": "tree"}}
    assert CONTENTS["tree"] == {"see": {"$content": "text"}, "list": [{"$content": "text"}]}


def test_a_reference_to_nothing_stays() -> None:
    """A content that was forgotten is still a value that is kept elsewhere."""
    assert resolve([{"$content": "gone"}], CONTENTS.__getitem__) == [{"$content": "gone"}]


@pytest.mark.parametrize("name", ["loop", "self"])
def test_contents_that_contain_themselves_come_to_an_end(name: str) -> None:
    """Hashes forbid it; a file changed by hand does not."""
    tree = resolve({"$content": name}, CONTENTS.__getitem__)
    levels = 0
    while isinstance(tree, list):
        tree, levels = tree[0], levels + 1

    assert tree == {"$content": name}
    assert levels in {0, REFS_DEPTH_MAX}


def test_contents_that_grow_without_end_stop_growing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten contents, each a hundred times the next, would fill the memory of any machine."""
    monkeypatch.setattr(values, "NODES_MAX", 10_000)
    contents = {f"c{i}": [{"$content": f"c{i + 1}"}] * 100 for i in range(10)}
    found: list[str] = []

    def lookup(name: str) -> Any:
        tree = contents[name]
        found.append(name)
        return tree

    resolve({"$content": "c0"}, lookup)

    assert 10 < len(found) <= 100


@pytest.mark.parametrize(
    ("tree", "shown"),
    [
        ({"$model": "m:C", "fields": {"a": {"$uuid": "u"}}}, {"a": "u"}),
        ({"$dataclass": "m:C", "fields": {"a": 1}}, {"a": 1}),
        ({"$enum": "m:Color", "v": {"$tuple": [1, 2]}}, [1, 2]),
        ({"$set": [{"$path": "/x"}]}, ["/x"]),
        ({"$map": [[1, "one"], [{"$enum": "m:E", "v": "k"}, "two"]]}, {"1": "one", "k": "two"}),
        ({"$map": [[1, "a"], ["1", "b"]]}, [[1, "a"], ["1", "b"]]),
        ({"$map": [[{"$tuple": [1]}, "a"]]}, [[[1], "a"]]),
        ({"$map": [["$content", "a"]]}, [["$content", "a"]]),
        ({"$datetime": "2026-01-15T10:00:00"}, "2026-01-15T10:00:00"),
        ({"$decimal": "1.50"}, "1.50"),
        ({"$float": "nan"}, "nan"),
        ({"$int": "0xff"}, 255),
        ({"$int": "123"}, 123),
        ({"$str": base64.b64encode("a\ud800".encode("utf-8", "surrogatepass")).decode()}, "a\ufffd\ufffd\ufffd"),
        ({"$error": "m:Outer.Boom", "msg": "bad", "args": []}, "Boom: bad"),
        ({"$ref": "agent", "cls": "m:Agent", "id": "1", "role": "Writer"}, "agent Writer"),
        ({"$ref": "memory", "cls": "m:Memory"}, "memory"),
        ({"$content": "h", "n": 2}, {"$content": "h", "n": 2}),
        ({"$bytes": "AA=="}, {"$bytes": "AA=="}),
        ({"$object": "m:C", "repr": "<C>"}, {"$object": "m:C", "repr": "<C>"}),
        ({"plain": {"$later": 1}}, {"plain": {"$later": 1}}),
    ],
)
def test_tags_become_what_they_stand_for(tree: Any, shown: Any) -> None:
    """Programs that read our JSON need not know the tags; what has no plain form keeps its tag."""
    assert plain(tree) == shown


@pytest.mark.parametrize(
    "tree",
    [
        {"$model": 1, "fields": 2},
        {"$int": "no number"},
        {"$int": None},
        {"$str": "no base64!"},
        {"$map": 3},
        {"$map": [[1]]},
        {"$error": 5},
        {"$ref": []},
        {"$set": "x"},
        {"$float": 1},
        {"$enum": "m:E"},
        {},
    ],
)
def test_a_tag_that_is_not_well_formed_is_left_alone(tree: Any) -> None:
    """Strange files must not make reading fail."""
    assert plain(tree) == tree


def test_no_depth_is_too_deep() -> None:
    """Nothing recurses, so nothing raises RecursionError."""
    tree = deep(100_000)
    keys: Any = 1
    for _ in range(20_000):
        keys = {"$map": [[keys, 1]]}

    assert collect_refs(tree) == set()
    for copied in (resolve(tree, CONTENTS.__getitem__), plain(tree), plain({"$tuple": tree}), plain(keys)):
        assert isinstance(copied, (list, dict))
