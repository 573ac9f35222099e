"""What came of a re-execution, as a value."""

from __future__ import annotations

from typing import Any

import msgspec


class ServedCounts(msgspec.Struct):
    """How often each kind of question was answered from the tape."""

    llm: int = 0
    token_counts: int = 0
    tools: int = 0
    human: int = 0
    memory: int = 0


class Reexecution(msgspec.Struct, kw_only=True):
    """What came of one kickoff that was executed again. True if it did what is recorded, to the letter."""

    execution: str
    """Its logical path."""
    diverged_at: str | None = None
    """Where it first did something else: logical path and type of the event; ``None``: nowhere."""
    at: str = ""
    """Where in that event: ``messages[1].content@25``."""
    expected: Any = None
    """What is recorded there; ``None``: nothing."""
    actual: Any = None
    """What came instead; ``None``: nothing."""
    changed: str | None = None
    """The first difference of the definitions, of the crew and its tasks, say; alone it is no divergence."""
    served: ServedCounts = msgspec.field(default_factory=ServedCounts)
    """What was answered from the tape. Nothing else was: a question that is not on it ends the kickoff."""
    output: Any = None
    """What the kickoff returned."""
    error: Any = None
    """The exception it ended with, as the recorded one did."""
    events: int = 0
    """How many events of CrewAI's bus were compared."""

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return self.diverged_at is None

    def __bool__(self) -> bool:
        """Whether nothing differs."""
        return self.ok

    def __str__(self) -> str:
        """Say in a line what came of it."""
        if self.ok:
            return f"{self.execution}: {self.events} events equal"
        place = f"{self.diverged_at} {self.at}".rstrip()
        changed = f" (the definition changed: {self.changed})" if self.changed else ""
        return f"{place}: recorded {shown(self.expected)}, now {shown(self.actual)}{changed}"


def shown(value: Any) -> str:
    """Return what is expected or came instead as a person reads it."""
    return "nothing" if value is None else repr(value) if isinstance(value, str) else str(value)
