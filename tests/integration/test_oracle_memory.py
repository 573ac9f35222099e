"""What a crew remembers and recalls: the real ``Memory`` of CrewAI over a store and an embedder made here."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from crewai import Crew
from crewai.memory.types import MemoryRecord, ScopeInfo
from crewai.memory.unified_memory import Memory

import eventlog
from tests.integration.oracle import WatchedLLM
from tests.scenarios import World
from tests.scenarios.crews import TOPIC, step


class Store:
    """Keeps records in a list; whatever is sought, the newest are found."""

    def __init__(self) -> None:
        self.records: list[MemoryRecord] = []
        self.searches = 0

    def save(self, records: list[MemoryRecord]) -> None:
        """Keep them."""
        self.records += records

    def search(self, query_embedding: list[float], *args: Any, limit: int = 10, **kwargs: Any) -> list[Any]:
        """Find the newest."""
        self.searches += 1
        return [(record, 0.9) for record in self.records[-limit:]]

    def delete(self, **kwargs: Any) -> int:
        """Forget all."""
        count = len(self.records)
        self.records.clear()
        return count

    def update(self, record: MemoryRecord) -> None:
        """Change nothing."""

    def get_record(self, record_id: str) -> MemoryRecord | None:
        """Find one by its id."""
        return next((record for record in self.records if record.id == record_id), None)

    def list_records(self, *args: Any, **kwargs: Any) -> list[MemoryRecord]:
        """List all."""
        return self.records

    def get_scope_info(self, scope: str) -> ScopeInfo:
        """Count all."""
        return ScopeInfo(path=scope, record_count=len(self.records))

    def list_scopes(self, parent: str = "/") -> list[str]:
        """There is one scope."""
        return []

    def list_categories(self, scope_prefix: str | None = None) -> dict[str, int]:
        """There are no categories."""
        return {}

    def count(self, scope_prefix: str | None = None) -> int:
        """Count all."""
        return len(self.records)

    def reset(self, scope_prefix: str | None = None) -> None:
        """Forget all."""
        self.records.clear()


@pytest.fixture
def memory() -> Any:
    """A memory of the real class."""
    made = Memory(llm=WatchedLLM(), embedder=lambda texts: [[1.0, 0.0] for _ in texts], storage=Store())
    yield made
    made.close()


@pytest.fixture
def log(tmp_path: Path) -> Any:
    """An empty log."""
    with eventlog.open(tmp_path / "log.db") as opened:
        yield opened


def operations(log: eventlog.Log) -> list[dict[str, Any]]:
    """Return what the log has of the memory."""
    return [event.payload for event in log.events("r", types=["eventlog.memory_exchange"])]


def remember(memory: Memory, text: str) -> Any:
    """Keep a text whose facts are all given, so that no LLM is asked."""
    return memory.remember(text, scope="/", categories=["tea"], importance=0.5, metadata={})


def test_a_crew_with_memory_tells_all_it_asked_and_told_it(log: eventlog.Log, memory: Memory) -> None:
    """The prompts hold what was recalled: without it no later request would be the same."""
    world = World(WatchedLLM)
    agent = world.agent()
    with log.run("r"):
        Crew(agents=[agent], tasks=[step(agent, 0), step(agent, 1)], memory=memory).kickoff(TOPIC)
        memory.drain_writes()
    found = operations(log)
    recalled = [o["result"]["value"] for o in found if o["operation"] == "recall"]
    prompt = "".join(message["content"] for message in world.llms[-1].calls[-1].messages)
    calls = world.llm_calls + len(memory.llm.calls)  # type: ignore[union-attr]
    exchanges = list(log.events("r", types=["eventlog.llm_exchange"]))

    assert Counter(o["operation"] for o in found) == {"recall": 2, "extract_memories": 2, "remember_many": 2}
    assert recalled[0] == []
    assert recalled[1][0]["fields"]["record"]["fields"]["content"] in prompt
    assert len(exchanges) == calls
    assert log.state("r").status == "completed"


def test_each_operation_is_told_once_with_what_came_back(log: eventlog.Log, memory: Memory) -> None:
    """The async forms call the others; that is one operation all the same."""
    with log.run("r"):
        kept = remember(memory, "Tea is green.")
        memory.recall("tea", depth="shallow")
        asyncio.run(memory.arecall("tea", depth="shallow", limit=1))
        memory.update(kept.id, content="Tea is black.")
        memory.forget(scope="/")
    found = operations(log)

    assert [o["operation"] for o in found] == ["remember", "recall", "arecall", "update", "forget"]
    assert [o["n"] for o in found] == [0, 1, 2, 3, 4]
    assert found[0]["args"]["content"] == "Tea is green."
    assert found[0]["result"]["value"]["fields"]["id"] == kept.id
    assert found[1]["result"]["value"][0]["fields"]["record"]["fields"]["content"] == "Tea is green."
    assert found[2]["args"]["limit"] == 1
    assert found[4]["result"]["value"] == 1


def test_an_operation_that_fails_is_told_with_its_error(
    log: eventlog.Log, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crew goes on without its memory; so must its replay."""
    monkeypatch.setattr(memory.storage, "search", _unreachable)
    with log.run("r"), pytest.raises(ConnectionError):
        memory.recall("tea", depth="shallow")

    error = operations(log)[0]["error"]

    assert (error["$error"], error["msg"]) == ("builtins:ConnectionError", "store down")


def _unreachable(*args: Any, **kwargs: Any) -> Any:
    """Raise what a store raises that is not there."""
    raise ConnectionError("store down")
