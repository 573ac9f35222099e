"""What one LLM remembers of its calls, and one call of its arguments. No CrewAI."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from eventlog.testing.answers import Call
from eventlog.testing.echo import freeze, offered_tools


@dataclass
class Session:
    """What the copies of one LLM share: ``kickoff_for_each`` copies agents, and with them their LLMs."""

    calls: list[Call] = field(default_factory=list)
    token_counts: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def recording(self, call: Call) -> Generator[Call]:
        """Number the call, keep it, and keep what the block raises as its answer."""
        with self.lock:
            call.number = len(self.calls)
            self.calls.append(call)
        try:
            yield call
        except BaseException as error:
            call.answer = error
            raise

    def __deepcopy__(self, memo: dict[int, Any]) -> Session:
        return self


@dataclass(frozen=True)
class Request:
    """The arguments of one call, as CrewAI gave them."""

    messages: Any
    tools: list[dict[str, Any]] | None
    callbacks: list[Any] | None
    available_functions: dict[str, Any] | None
    from_task: Any
    from_agent: Any
    response_model: type[BaseModel] | None

    @property
    def origin(self) -> dict[str, Any]:
        """Who asks, as the event helpers of ``BaseLLM`` want it."""
        return {"from_task": self.from_task, "from_agent": self.from_agent}

    def as_call(self, messages: Any) -> Call:
        """Return the request as a test wants to look at it; hooks may have changed its messages."""
        frozen, task = freeze(messages), self.from_task
        return Call(
            messages=frozen,
            tools=offered_tools(frozen, self.tools),
            agent=getattr(self.from_agent, "role", None),
            task=getattr(task, "name", None) or getattr(task, "description", None),
            response_model=self.response_model,
        )
