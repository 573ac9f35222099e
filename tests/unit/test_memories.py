"""The fold of the memory, the words of a query, and vectors."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import numpy
import pytest

from eventlog.ledger.events import MemoryCorrected, MemoryDeleted, MemorySaved, WorkEvent, fields_of
from eventlog.ledger.memories import (
    Memories,
    Told,
    Wish,
    apply,
    find_memory,
    is_of_lineage,
    may_see,
    read_told,
    text_of,
)
from eventlog.ledger.memory_index import MemoryIndex, words_of
from eventlog.ledger.memory_vectors import Embedder, by_likeness, fused, pack, unpack
from eventlog.record import StoredEvent


def told(seq: int, event: WorkEvent, run: str | None = "r", branch: str = "main") -> Told:
    """Return an event as the fold gets it."""
    return Told(seq=seq, at_ns=seq, run=run, branch=branch, event=event)


def saved(name: str = "m", value: Any = "tea", **fields: Any) -> MemorySaved:
    """Return what a save says."""
    return MemorySaved(**{"memory": name, "namespace": "n", "value": value, "scope": "agent-shared", **fields})


def folded(*events: WorkEvent) -> Memories:
    """Return the state after events."""
    state = Memories()
    for seq, event in enumerate(events, start=1):
        apply(state, told(seq, event))
    return state


def values(state: Memories) -> dict[str, Any]:
    """Return what is remembered, by id."""
    return {found.entry.id: found.entry.value for found in state.current()}


def test_what_a_correction_does_not_give_stays() -> None:
    """Somebody who adds a fact does not have to repeat the finding."""
    state = folded(saved(metadata={"a": 1}, agent="x"), MemoryCorrected(memory="m", metadata={"b": 2}, by="y"))
    [found] = state.current()

    assert (found.entry.value, found.entry.metadata, found.entry.agent) == ("tea", {"b": 2}, "x")
    assert (found.entry.created_at_ns, found.entry.updated_at_ns) == (1, 2)
    assert [(change.action, change.by) for change in found.changes] == [("saved", "x"), ("corrected", "y")]


def test_an_id_is_saved_once_also_after_it_was_deleted() -> None:
    """A tool that was cut off and runs again must not bring back what somebody deleted meanwhile."""
    state = folded(saved(), MemoryDeleted(memory="m", namespace="n"), saved(value="coffee"))

    assert values(state) == {}
    assert state.ignored == 1


def test_the_same_id_in_two_namespaces_is_two_memories() -> None:
    """Two pipelines that number their findings must not overwrite each other."""
    state = folded(saved(), saved(namespace="o", value="milk"), MemoryDeleted(memory="m", namespace="n"))

    assert values(state) == {"m": "milk"}


@pytest.mark.parametrize(
    "event",
    [
        MemoryCorrected(memory="nobody", value="x"),
        MemoryCorrected(memory="m", namespace="elsewhere", value="x"),
        MemoryDeleted(memory="nobody"),
        saved("other", scope="everybody"),
        saved("other", scope="agent-private"),
    ],
)
def test_what_makes_no_sense_is_counted_and_changes_nothing(event: WorkEvent) -> None:
    """A log of another version, or of another program, may hold anything."""
    state = folded(saved(), event)

    assert (values(state), state.ignored) == ({"m": "tea"}, 1)


@pytest.mark.parametrize(
    "tree", [None, [], {}, {"memory": 3}, {"$forgotten": "2026"}, {"memory": "m", "namespace": "n"}]
)
def test_a_payload_that_says_nothing_is_no_event(tree: Any) -> None:
    """After ``log.forget`` the event is still there, and says nothing any more."""
    header = StoredEvent(seq=1, event_id="e", type=MemorySaved.event_type, at_ns=1, run="r", branch="main")

    assert read_told(header, tree, lambda value: value) is None


def test_metadata_whose_keys_look_like_tags_arrives() -> None:
    """The codec keeps such a mapping as pairs."""
    header = StoredEvent(seq=1, event_id="e", type=MemorySaved.event_type, at_ns=1, run="r", branch="main")
    tree = {**fields_of(saved()), "metadata": {"$map": [["$ref", "x"]]}}

    read = read_told(header, tree, lambda value: value)

    assert read is not None
    assert isinstance(read.event, MemorySaved)
    assert read.event.metadata == {"$ref": "x"}


def test_a_fork_sees_its_parent_up_to_the_fork_and_other_runs_on_main() -> None:
    """The lineage is what happened to it; other runs' experiments are nobody else's."""
    spans = {"main": (0, 5), "b": (5, 2**62)}
    seen = [
        (seq, run, branch)
        for seq, run, branch in [(5, "r", "main"), (6, "r", "main"), (7, "r", "b"), (8, "r", "c"), (9, "o", "main"),
                                 (9, "o", "b"), (9, None, "main")]
        if is_of_lineage(told(seq, saved(), run, branch), "r", spans)
    ]  # fmt: skip

    assert seen == [(5, "r", "main"), (7, "r", "b"), (9, "o", "main"), (9, None, "main")]


@pytest.mark.parametrize(
    ("scope", "namespace", "agent", "expected"),
    [
        ("agent-shared", "n", None, True),
        ("agent-shared", "o", None, False),
        ("agent-shared", None, None, True),
        ("agent-private", "n", "x", True),
        ("agent-private", "n", "y", False),
        ("agent-private", "n", None, False),
        ("agent-private", None, None, False),
        ("agent-private", "o", "x", False),
        ("global", "o", None, True),
    ],
)
def test_who_may_see_what(scope: str, namespace: str | None, agent: str | None, expected: bool) -> None:
    """The whole table of it; the memory is of agent x in namespace n."""
    [found] = folded(saved(scope=scope, agent="x")).current()

    assert may_see(found.entry, namespace, agent) is expected


def test_an_id_means_the_memory_of_the_own_namespace_first() -> None:
    """Somebody else's global memory must not stand in front of one's own."""
    state = folded(saved(namespace="o", scope="global", value="theirs"), saved(value="ours"))
    ours, theirs = find_memory(state, "m", Wish(namespace="n")), find_memory(state, "m", Wish(namespace="p"))

    assert ours is not None
    assert theirs is not None
    assert (ours.entry.value, theirs.entry.value) == ("ours", "theirs")


def test_the_text_of_a_value_holds_all_its_words_in_order() -> None:
    """What is nested is found as well."""
    assert (
        text_of({"file": "auth.py", "lines": [3, {"why": "eval"}], "none": None})
        == "file auth.py lines 3 why eval none"
    )


# -- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("vulnerabilities in auth", ["vulnerabilities", "auth"]),
        ("in the", ["in", "the"]),
        ('a "b" OR c* NEAR(d) col:e -f', ["b", "c", "NEAR", "d", "col", "e", "f"]),
        ("\0 \ud800 ,.;— 🔥", []),
        ("", []),
        ("src/auth_flow.py", ["src", "auth", "flow", "py"]),
    ],
)
def test_the_words_of_a_query(query: str, words: list[str]) -> None:
    """Operators are words like others; words that only join others are left out beside them."""
    assert words_of(query) == words


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("SQL injection vulnerability in auth module", "vulnerabilities in auth"),
        ("an injection vulnerability", "vulnerabilities"),
        ("Café à Paris", "cafe"),
        ("SQL注入漏洞在登录模块", "漏洞"),
        ("Zugangsdaten stehen im Klartext", "KLARTEXT"),
        ("tea\0pot", "pot"),
        ("see src/auth_flow.py", "auth flow"),
    ],
)
def test_a_text_is_found_by_a_form_of_one_of_its_words(text: str, query: str) -> None:
    """Plural and singular, accents, capitals, scripts without spaces, and words joined by signs."""
    index = MemoryIndex()
    index.put([(0, text, ""), (1, "something else entirely", "")])

    assert list(index.scores(query) or {}) == [0]


def test_a_word_of_the_value_weighs_more_than_one_of_the_metadata() -> None:
    """Metadata helps to find; it is not what was found."""
    index = MemoryIndex()
    index.put([(0, "alpha beta", "auth"), (1, "auth beta", "alpha"), *((n, "gamma delta", "x") for n in range(2, 9))])
    scores = index.scores("auth") or {}

    assert scores[1] > scores[0] > 0


def test_nothing_of_the_index_is_on_the_disk() -> None:
    """Not even what SQLite sorts: an encrypted log must not leak its words."""
    index = MemoryIndex()
    [(_, _, file)] = index._table.db.execute("PRAGMA database_list").fetchall()

    assert file == ""
    assert index._table.db.execute("PRAGMA temp_store").fetchone() == (2,)


# -- vectors ----------------------------------------------------------------------------------------


def test_a_vector_comes_back_from_its_event() -> None:
    """32-bit floats, little-endian, in base64, as events.py says."""
    vector = numpy.array([1.5, -2.0, 0.0], dtype="<f4")

    assert pack(vector) == "AADAPwAAAMAAAAAA"
    assert unpack(pack(vector)).tolist() == vector.tolist()


@pytest.mark.parametrize("text", [None, 3, "", "x", "AAA=", pack(numpy.array([numpy.nan], dtype="<f4"))])
def test_what_is_no_vector_is_none(text: Any) -> None:
    """Another program may have written it."""
    assert unpack(text) is None


@pytest.mark.parametrize(
    "answer", [[], [[1.0]], [[1.0], [2.0, 3.0]], [1.0, 2.0], [[], []], [["a"], ["b"]], None, [[float("nan")], [1.0]]]
)
def test_a_wrong_answer_of_an_embedder_is_logged_and_costs_nothing_else(
    answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Two texts were asked for."""
    with caplog.at_level(logging.WARNING, logger="eventlog"):
        made = Embedder(lambda texts: answer).embed(["a", "b"])

    assert made is None
    assert [record.message for record in caplog.records] == ["memory_not_embedded"]


def test_an_embedder_is_known_by_its_name() -> None:
    """Vectors of another one must not be compared with its own."""

    class Named:
        name = "minilm-v2"

        def __call__(self, texts: list[str]) -> list[list[float]]:
            return [[1.0] for _ in texts]

    assert Embedder(Named()).name == "minilm-v2"
    assert Embedder(len).name == "len"  # type: ignore[arg-type]


def test_likeness_is_the_cosine_and_other_lengths_are_left_out() -> None:
    """A vector of zeros is like nothing."""
    vectors = {"same": [2.0, 0.0], "across": [0.0, 3.0], "against": [-1.0, 0.0], "zero": [0.0, 0.0], "long": [1.0] * 3}
    found = by_likeness(
        numpy.array([1.0, 0.0], dtype="<f4"), {k: numpy.array(v, dtype="<f4") for k, v in vectors.items()}
    )

    assert found == {"same": 1.0, "across": 0.0, "against": -1.0, "zero": 0.0}


def test_fusion_adds_up_reciprocal_ranks() -> None:
    """What both rankings hold comes before what one of them has at its top."""
    assert fused([["a", "b"], ["b"]]) == {"a": 1 / 61, "b": 1 / 62 + 1 / 61}


def test_what_is_stored_of_an_event_of_the_memory_is_json() -> None:
    """Its fields are what ``fields_of`` says."""
    assert msgspec.json.decode(msgspec.json.encode(fields_of(saved(agent="x"))))["agent"] == "x"
