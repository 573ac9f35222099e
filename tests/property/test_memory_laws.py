"""Laws of the memory: no query raises, an index that grew is a fresh one, nobody sees what they may not."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventlog
from eventlog import Memory, MemoryNotFoundError
from eventlog.ledger.events import MemoryCorrected, MemoryDeleted, MemorySaved, WorkEvent
from eventlog.ledger.memories import SCOPES, Told
from eventlog.ledger.memory_index import MemoryIndex
from eventlog.ledger.memory_shelf import View
from tests.property.test_snapshot_laws import EXAMPLES

IDS = st.sampled_from("mno")
TEXTS = st.lists(
    st.sampled_from(["auth", "SQL", "injection", "vulnerable", "tea", "teas", "漏洞", "a\0b", "\ud800"]), min_size=1
).map(" ".join)
QUERIES = st.one_of(
    st.text(), st.text(alphabet="\"'*()^:-+{}[]\0.,;!?~ abAND🔥\ud800漏"), TEXTS,
    st.sampled_from(['"', '""', "NEAR(a b, 2)", "a AND", "NOT", "value:x", "a* OR", "^a", "x" * 5000, "a b " * 5000]),
)  # fmt: skip
EVENTS: st.SearchStrategy[WorkEvent] = st.one_of(
    st.builds(
        MemorySaved, memory=IDS, namespace=st.just("n"), value=TEXTS, scope=st.just("agent-shared"),
        metadata=st.dictionaries(st.sampled_from("kl"), TEXTS, max_size=2),
    ),
    st.builds(MemoryCorrected, memory=IDS, namespace=st.just("n"), value=TEXTS),
    st.builds(MemoryDeleted, memory=IDS, namespace=st.just("n")),
)  # fmt: skip


@given(QUERIES, TEXTS)
def test_no_query_raises(query: str, text: str) -> None:
    """It is what a person, or a model, types."""
    index = MemoryIndex()
    index.put([(0, text, text)])
    found = index.scores(query)

    assert found is None or all(score > 0 for score in found.values())


@given(TEXTS)
def test_every_text_is_found_by_its_own_words(text: str) -> None:
    """Whatever signs it holds."""
    index = MemoryIndex()
    index.put([(0, text, "")])

    assert index.scores(text) in (None, {0: pytest.approx(0, abs=10)})
    assert (index.scores(text) is None) == (not any(map(str.isalnum, text)))


@given(st.lists(EVENTS, max_size=12), st.data())
def test_an_index_that_grew_equals_a_fresh_one(events: list[WorkEvent], data: st.DataObject) -> None:
    """At every moment in which somebody searches: the same memories, the very same scores."""
    told = [Told(seq=seq, at_ns=seq, run="r", branch="main", event=event) for seq, event in enumerate(events, start=1)]
    grown, at = View(), 0
    while at < len(told):
        at = data.draw(st.integers(at + 1, len(told)))
        query = data.draw(TEXTS)

        assert grown.fold(told[:at]).scores(query) == View().fold(told[:at]).scores(query)


# -- scopes -------------------------------------------------------------------------------------------

NAMES, AGENTS = ("n", "o"), (None, "x", "y")
SAVES = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(AGENTS), st.sampled_from(SCOPES)), min_size=1, max_size=8
)


def may(asker: tuple[str, str | None], saved: tuple[str, str | None, str]) -> bool:
    """Say naively whether somebody may see a memory."""
    (where, who), (namespace, agent, scope) = asker, saved
    if scope == "global":
        return True
    return where == namespace and (scope == "agent-shared" or (who is not None and who == agent))


def seen_by(memory: Memory, agent: str | None, names: list[str]) -> list[set[str]]:
    """Return what somebody sees, in each way of looking."""
    some: dict[str, Any] = {"agent": agent}
    found = [{it.id for it in memory.search(query, limit=99, **some)} for query in ("finding", "", "🔥")]
    found.append({it.id for it in memory.all(**some)})
    for look in (memory.get, memory.history):
        got = set()
        for name in names:
            try:
                look(name, **some)
            except MemoryNotFoundError:
                continue
            got.add(name)
        found.append(got)
    return found


@EXAMPLES
@given(SAVES)
def test_everybody_sees_what_they_may_and_nothing_else(saves: list[tuple[str, str | None, str]]) -> None:
    """Compared with a naive model, for everybody, in every way of looking."""
    valid = [save for save in saves if save[1] is not None or save[2] != "agent-private"]
    with tempfile.TemporaryDirectory() as folder, eventlog.open(Path(folder) / "x.db") as log:
        for number, (namespace, agent, scope) in enumerate(valid):
            Memory(log, "r", namespace=namespace).save("a finding", scope=scope, agent=agent, memory_id=f"id{number}")
        names = [f"id{number}" for number in range(len(valid))]
        for asker in ((name, agent) for name in NAMES for agent in AGENTS):
            expected = {name for name, save in zip(names, valid, strict=True) if may(asker, save)}

            found = seen_by(Memory(log, "other", namespace=asker[0]), asker[1], names)

            assert found == [expected] * len(found)
