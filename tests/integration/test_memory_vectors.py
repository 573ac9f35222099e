"""A memory with an embedder: what shares a meaning is found, too; vectors are made once, and may fail."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import eventlog
from eventlog import Log, Memory
from tests.integration.test_memory import FINDING, found


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """An empty log."""
    with eventlog.open(tmp_path / "x.db") as log:
        yield log


class Concepts:
    """An embedder that knows two concepts, and counts what it is asked."""

    name = "concepts"
    groups = (("login", "auth", "password", "credentials"), ("tea", "sencha", "pot"))

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: list[str]) -> list[list[float]]:
        """Count the words of each concept."""
        self.asked.append(texts)
        return [[0.1 + sum(word in text.lower() for word in group) for group in self.groups] for text in texts]


def test_an_embedder_finds_what_shares_no_word(log: Log) -> None:
    """And what both rankings like comes first."""
    memory = Memory(log, "audit", embedder=Concepts())
    for text in ("the credentials are public", "sencha is green", "login is slow"):
        memory.save(text)

    assert found(memory, "login", limit=2) == ["login is slow", "the credentials are public"]
    assert found(Memory(log, "audit"), "login") == ["login is slow"]
    assert found(memory, "password", limit=2) == ["login is slow", "the credentials are public"]
    assert len(memory.in_namespace("audit").search("login")) == 3


def test_vectors_are_kept_and_missing_ones_made_once(log: Log) -> None:
    """What was saved without an embedder, or with another one, is embedded at the first search of a process."""
    Memory(log, "audit").save("plain tea")
    Memory(log, "audit", embedder=lambda texts: [[1.0]] * len(texts)).save("other tea")
    concepts = Concepts()
    memory = Memory(log, "audit", embedder=concepts)
    name = memory.save("own tea")
    found(memory, "tea")
    found(memory, "tea")

    assert concepts.asked == [["own tea"], ["tea"], ["other tea", "plain tea"], ["tea"]]
    memory.correct(name, "own coffee")
    memory.correct(name, metadata={"k": 1})
    found(memory, "tea")
    assert concepts.asked[4:] == [["own coffee"], ["tea"]]
    Memory(log, "audit").correct(name, "own milk")
    found(memory, "tea")
    assert concepts.asked[6:] == [["tea"], ["own milk"]]


@pytest.mark.parametrize("fails", ["always", "at the query"])
def test_an_embedder_that_fails_costs_no_memory(log: Log, caplog: pytest.LogCaptureFixture, fails: str) -> None:
    """It is saved without a vector, words find it, and the log says what happened."""

    def embed(texts: list[str]) -> list[list[float]]:
        if fails == "always" or texts == ["auth"]:
            raise ConnectionError("the service is down")
        return [[1.0]] * len(texts)

    memory = Memory(log, "audit", embedder=embed)
    with caplog.at_level(logging.WARNING, logger="eventlog"):
        memory.save(FINDING)
        memory.save("tea")

        assert found(memory, "auth") == [FINDING]
    assert "memory_not_embedded" in {record.message for record in caplog.records}
    vectors = ["vector" in event.payload for event in log.events("audit")]
    assert vectors == [fails != "always"] * 2
