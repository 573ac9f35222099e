"""A crew that remembers: the real ``Memory`` of CrewAI over a store and an embedder made here."""

from __future__ import annotations

from collections import Counter
from typing import Any

from crewai import Crew
from crewai.memory.types import MemoryRecord, ScopeInfo
from crewai.memory.unified_memory import Memory

from tests.scenarios.crews import step
from tests.scenarios.tasks import of_crew
from tests.scenarios.world import Scenario, World, saw


class Store:
    """Keeps records in a list; whatever is sought, the newest are found."""

    def __init__(self) -> None:
        """Keep none yet."""
        self.records: list[MemoryRecord] = []
        self.saves: list[list[MemoryRecord]] = []
        """What each save brought."""
        self.told: Counter[str] = Counter()

    def save(self, records: list[MemoryRecord]) -> None:
        """Keep them."""
        self.saves.append(records)
        self.records += records

    def search(self, query_embedding: list[float], *args: Any, limit: int = 10, **kwargs: Any) -> list[Any]:
        """Find the newest."""
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


def memory(world: World) -> Memory:
    """Return a memory of the real class with a store of its own."""
    world.store = Store()
    made = Memory(llm=world.llm(), embedder=lambda texts: [[1.0, 0.0] for _ in texts], storage=world.store)
    world.memories.append(made)
    return made


def remembering(world: World) -> Scenario:
    """Each task recalls what the earlier ones left, and leaves something itself."""
    agent = world.agent(llm=world.llm(tool_rounds=1), tools=[world.lookup()])
    crew = Crew(agents=[agent], tasks=[step(agent, i) for i in range(3)], memory=memory(world))
    return of_crew(world, crew, outputs=[saw("Writer")], llm_calls=14, tool_runs=3)


BUILDERS = (remembering,)
"""Every scenario of this file."""
