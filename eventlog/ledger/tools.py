"""Tools with which agents use the memory themselves.

What a person or a crew sets up (whose memory it is, who may see it) is no argument of theirs: the model chooses words
only. Whatever goes wrong comes back as text, for the agent to deal with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid5

import msgspec
from crewai.tools import BaseTool
from pydantic import BaseModel, Field, PrivateAttr

from eventlog.capture.tools import idempotency_key
from eventlog.errors import EventLogError, MemoryScopeError
from eventlog.ledger.memories import PRIVATE, SCOPES, SHARED, MemoryMatch, text_of
from eventlog.ledger.memory import Memory

_USES = UUID("8a3c7c5e-6f5f-5f0e-9f43-2f3a5a0c4d11")
"""Ids of memories are made of this, the use of the tool, and what it saves."""


class SaveArguments(BaseModel):
    """What a model says to save something."""

    value: str = Field(
        description="One finding, in full sentences that make sense without the conversation: what, where, and why it"
        " matters. Save several findings one by one."
    )
    metadata: dict[str, Any] | None = Field(
        default=None, description='Facts to filter by later, e.g. {"severity": "critical", "file": "auth.py"}.'
    )


class SearchArguments(BaseModel):
    """What a model says to find something."""

    query: str = Field(
        description="What to look for, in a few telling words or a sentence. Empty: what was remembered last."
    )
    metadata: dict[str, Any] | None = Field(
        default=None, description='Only findings whose facts equal these, e.g. {"severity": "critical"}.'
    )


class MemoryTool(BaseTool):
    """A tool on a memory; its results are never taken from CrewAI's cache: what is remembered changes."""

    _memory: Memory | None = PrivateAttr(default=None)
    _agent: str | None = PrivateAttr(default=None)

    def __init__(self, memory: Memory | None = None, agent: str | None = None, **options: Any) -> None:
        """``agent``: as whom it speaks; ``options``: those of CrewAI's tools."""
        super().__init__(**{"cache_function": never, **options})
        self._memory, self._agent = memory, agent

    def _told(self, use: Callable[[Memory], str]) -> str:
        """Return what a use of the memory says, or why there was none."""
        if self._memory is None:
            return "Error: this tool was restored without its memory; go on without it."
        try:
            return use(self._memory)
        except EventLogError as error:
            return f"Error: {error}. {error.hint}".rstrip()


class MemorySaveTool(MemoryTool):
    """Lets an agent remember what it found.

    >>> MemorySaveTool(run.memory, agent="scanner")  # doctest: +SKIP

    A use that a crash cut off, and which runs again in the next process, saves once.
    """

    name: str = "memory_save"
    description: str = (
        "Save a finding to the long-term memory of this work, so that you and others can look it up in later tasks"
        " and after restarts. Use it for facts, decisions and problems that will matter later."
    )
    args_schema: type[BaseModel] = SaveArguments
    _scope: str = PrivateAttr(default=SHARED)

    def __init__(
        self, memory: Memory | None = None, agent: str | None = None, scope: str = SHARED, **options: Any
    ) -> None:
        """``scope``: who will find what it saves; see ``Memory.save``.

        Raises:
            MemoryScopeError: there is no such scope, or it is private and there is no agent.
        """
        if scope not in SCOPES or (scope == PRIVATE and not agent):
            raise MemoryScopeError(f"scope {scope!r} of agent {agent!r}")
        super().__init__(memory, agent, **options)
        self._scope = scope

    def _run(self, value: str, metadata: dict[str, Any] | None = None) -> str:
        """Save it, and say so."""

        def save(memory: Memory) -> str:
            name = self._id_of(memory, value, metadata)
            saved = memory.save(value, metadata=metadata, scope=self._scope, agent=self._agent, memory_id=name)
            return f"Saved to memory as {saved}."

        return self._told(save)

    def _id_of(self, memory: Memory, value: str, metadata: dict[str, Any] | None) -> str | None:
        """Return what this use of the tool saves under, the same in every process; ``None`` outside of one.

        A fork may say something else at the same place: that is another memory.
        """
        use = idempotency_key()
        if use is None:
            return None
        said = msgspec.json.encode([use, memory.clean(value), memory.clean(metadata)], enc_hook=str)
        return uuid5(_USES, said.decode()).hex


class MemorySearchTool(MemoryTool):
    """Lets an agent look up what it, or others, found.

    >>> MemorySearchTool(run.memory, agent="reviewer", limit=5)  # doctest: +SKIP
    """

    name: str = "memory_search"
    description: str = (
        "Search the long-term memory of this work for what you or others found earlier, also before a restart."
        " Returns the best matches first. Use it before you begin something that may have been looked at already."
    )
    args_schema: type[BaseModel] = SearchArguments
    limit: int = 5
    """Most findings it returns."""

    def __init__(self, memory: Memory | None = None, agent: str | None = None, limit: int = 5, **options: Any) -> None:
        """``agent``: who also finds what is private to it; ``limit``: most findings of one search."""
        super().__init__(memory, agent, limit=limit, **options)

    def _run(self, query: str, metadata: dict[str, Any] | None = None) -> str:
        """Search, and list what was found."""

        def search(memory: Memory) -> str:
            found = memory.search(query, limit=self.limit, metadata=metadata, agent=self._agent)
            return "\n".join(_line(number, match) for number, match in enumerate(found, 1)) or "Nothing found."

        return self._told(search)


def never(_arguments: Any = None, _result: Any = None) -> bool:
    """Whether CrewAI may give a result again without asking: no."""
    return False


def _line(number: int, match: MemoryMatch) -> str:
    """Return one finding as a model reads it."""
    facts = "".join(f" [{name}: {text_of(value)}]" for name, value in match.metadata.items())
    value = match.value if isinstance(match.value, str) else msgspec.json.encode(match.value).decode()
    return f"{number}. {value}{facts} (from {match.agent or 'somebody'}, id {match.id})"
