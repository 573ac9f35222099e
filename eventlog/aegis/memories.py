"""Memory: what agents found. All of it stands in the run ``aegis``, by namespace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eventlog.aegis.answers import DEFAULT_NAMESPACE, Answer
from eventlog.aegis.features import RUN
from eventlog.aegis.logs import OnLog
from eventlog.errors import MemoryNotFoundError
from eventlog.ledger.memories import GLOBAL, SHARED, MemoryEntry, MemoryMatch
from eventlog.ledger.memory import Memory
from eventlog.log import Log
from eventlog.replay.state import iso_utc

USER = "user_id"
"""Whom a memory is about: kept in its metadata."""
ALL = 2**31


class MemoryMethods(OnLog):
    """What a client remembers, and finds."""

    def __init__(self, log: Log) -> None:
        """Nothing is read or written before it is asked for."""
        super().__init__(log)
        self._memory_of_all = Memory(log)
        self._memory = Memory(log, RUN)

    def add(
        self, content: Any, *, agent_id: str | None = None, user_id: str | None = None,
        namespace: str = DEFAULT_NAMESPACE, metadata: Mapping[str, Any] | None = None, scope: str | None = None,
    ) -> Answer:  # fmt: skip
        """Return the ``id`` of what is now in memory, committed.

        ``scope``: ``agent-private``, ``agent-shared`` (of an agent, by default: all agents of the namespace find it)
        or ``global``.

        Raises:
            MemoryScopeError, MemoryValueError: it cannot be kept so; nothing was saved.
            AppendError: it could not be stored.
        """
        about = dict(metadata or {}) if user_id is None else {**(metadata or {}), USER: user_id}
        where = scope or (SHARED if agent_id else GLOBAL)
        saved = self._memory.in_namespace(namespace).save(content, metadata=about, scope=where, agent=agent_id)
        return Answer(id=saved, deduped_from=None, inferred_scope=where)

    def query(
        self, query: str, agent_id: str | None = None, *, user_id: str | None = None,
        namespace: str = DEFAULT_NAMESPACE, top_k: int = 10, min_score: float = 0.0,
    ) -> list[Answer]:  # fmt: skip
        """Return what fits best of a namespace, the best first; with ``agent_id`` what that agent found only.

        Scores tell which of two fits better and nothing else: ``min_score`` is not used.
        """
        _ = min_score
        agents = None if agent_id is None else [agent_id]
        return self._matches(query, agent_id, agents, user_id, namespace)[:top_k]

    def query_cross_agent(
        self, query: str, requesting_agent_id: str, *, target_agent_ids: Sequence[str] | None = None,
        user_id: str | None = None, namespace: str = DEFAULT_NAMESPACE, top_k: int = 10, min_score: float = 0.0,
    ) -> list[Answer]:  # fmt: skip
        """Return what fits best of what an agent may see in a namespace, whoever found it (or one of the targets)."""
        _ = min_score
        return self._matches(query, requesting_agent_id, target_agent_ids, user_id, namespace)[:top_k]

    def get(self, memory_id: str, *, agent_id: str | None = None) -> Answer:
        """Return one memory; a private one is there for its agent only.

        Raises:
            MemoryNotFoundError: there is none, or the agent may not see it.
        """
        return _answer(self._memory_of_all.get(memory_id, agent=agent_id))

    def delete(self, memory_id: str, *, agent_id: str | None = None) -> bool:
        """Return whether there was such a memory; nobody finds it any more. Its event stays in the log.

        Raises:
            AppendError: it could not be stored.
        """
        try:
            found = self._memory_of_all.get(memory_id, agent=agent_id)
            self._memory.in_namespace(found.namespace).delete(memory_id, by=agent_id)
        except MemoryNotFoundError:
            return False
        return True

    def _matches(
        self, query: str, asks: str | None, agents: Sequence[str] | None, user: str | None, namespace: str
    ) -> list[Answer]:
        """Return what fits, the best first. A namespace holds what was saved in it, and nothing global of others."""
        here = self.log.clean_name(namespace)
        found = self._memory.in_namespace(here).search(
            query, limit=ALL, agent=asks, metadata=None if user is None else {USER: user}
        )
        return [
            _answer(match) for match in found if match.namespace == here and (agents is None or match.agent in agents)
        ]


def _answer(found: MemoryEntry) -> Answer:
    """Return a memory."""
    about = dict(found.metadata)
    return Answer(
        id=found.id,
        content=found.value,
        agent_id=found.agent,
        user_id=about.pop(USER, None),
        namespace=found.namespace,
        metadata=about,
        scope=found.scope,
        score=found.score if isinstance(found, MemoryMatch) else None,
        created_at=iso_utc(found.created_at_ns),
        updated_at=iso_utc(found.updated_at_ns),
    )
