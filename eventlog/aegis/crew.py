"""Memory of a crew and of its agents, under the names that programs for Aegis Memory call."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from eventlog.aegis.answers import Answer
from eventlog.aegis.client import AegisClient


class AegisCrewMemory:
    """The memory that a crew shares: a namespace."""

    def __init__(
        self, api_key: str | None = None, base_url: str | None = None, namespace: str = "crewai",
        default_scope: str = "global", db: str | os.PathLike[str] | None = None,
    ) -> None:  # fmt: skip
        """Use a local log; ``api_key`` and ``base_url`` are not used. See ``AegisClient``."""
        self.client = AegisClient(base_url, api_key, db=db)
        self.namespace, self.default_scope = namespace, default_scope

    def save(self, value: Any, agent: str | None = None, metadata: Mapping[str, Any] | None = None) -> str:
        """Return the id of what is now in memory, committed.

        Raises:
            AppendError: it could not be stored.
        """
        return save(self, value, agent, self.default_scope, metadata)

    def search(self, query: str, agent: str | None = None, limit: int = 10) -> list[Answer]:
        """Return what fits a query best, of what an agent may see: dicts with content, metadata, score, agent_id."""
        if agent is None:
            found = self.client.query(query, namespace=self.namespace, top_k=limit)
        else:
            found = self.client.query_cross_agent(query, agent, namespace=self.namespace, top_k=limit)
        return [_found(memory) for memory in found]

    def reset(self) -> None:
        """Do nothing, as the original does: ``client.delete`` takes single memories back."""


class AegisAgentMemory:
    """The memory of one agent in a crew; ``handoff_to`` and playbooks of the original need its server."""

    def __init__(self, crew_memory: AegisCrewMemory, agent_id: str, scope: str = "agent-shared") -> None:
        """What it saves has this scope: ``agent-private``, ``agent-shared`` or ``global``."""
        self.crew_memory, self.agent_id, self.scope = crew_memory, agent_id, scope
        self.client, self.namespace = crew_memory.client, crew_memory.namespace

    def save(self, value: Any, metadata: Mapping[str, Any] | None = None) -> str:
        """Return the id of what is now in memory, committed.

        Raises:
            AppendError: it could not be stored.
        """
        return save(self.crew_memory, value, self.agent_id, self.scope, metadata)

    def search(self, query: str, limit: int = 10, include_other_agents: bool = True) -> list[Answer]:
        """Return what fits a query best, of what this agent may see: dicts with content, metadata, score, agent_id."""
        ask = self.client.query_cross_agent if include_other_agents else self.client.query
        return [_found(memory) for memory in ask(query, self.agent_id, namespace=self.namespace, top_k=limit)]


def save(crew: AegisCrewMemory, value: Any, agent: str | None, scope: str, metadata: Mapping[str, Any] | None) -> str:
    """Return the id of what an agent of a crew has found."""
    about = {"source": "crewai", "agent_role": agent, **(metadata or {})}
    saved = crew.client.add(value, agent_id=agent, namespace=crew.namespace, scope=scope, metadata=about)
    return str(saved["id"])


def _found(memory: Answer) -> Answer:
    """Return what an agent is shown of a memory."""
    return Answer({name: memory[name] for name in ("content", "metadata", "score", "agent_id")})
