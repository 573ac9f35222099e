"""What was asked of the world and what came back, as the tape holds it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

SAVES = ("remember", "aremember", "remember_many", "aremember_many")
"""What tells a memory something; for ``remember_many`` CrewAI saves it in the background."""


class Exchange(msgspec.Struct):
    """One recorded request and what came of it."""

    seq: int
    lane: str
    fields: dict[str, Any]
    """The payload, references unresolved."""
    started: dict[str, Any] | None = None
    """Of a model call: the payload of its ``llm_call_started``."""
    completed: dict[str, Any] | None = None
    """Of a model call: the payload of its ``llm_call_completed``."""
    chunks: list[tuple[str, dict[str, Any]]] = []
    """Of a model call that streamed: type and payload of each piece."""
    agent: tuple[str | None, str | None] = (None, None)
    """Of a model call: id and role of the agent that asked."""
    is_served: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether a model said nothing, which CrewAI takes for a failure."""
        box = self.fields.get("response")
        known = self.completed or {}
        said = box.get("value") if isinstance(box, dict) else known.get("response")
        return said in (None, "", []) and self.fields.get("completed") is not None

    @property
    def failed(self) -> bool:
        """Whether an error came back."""
        return self.fields.get("error") is not None

    @property
    def is_good(self) -> bool:
        """Whether something came back that CrewAI can go on with."""
        return not (self.failed or self.is_empty)


class Finished(msgspec.Struct):
    """A task or method that came to its end."""

    seq: int
    path: str
    started: dict[str, Any]
    ended: dict[str, Any]


class OpenTool(msgspec.Struct):
    """A use of a tool that was under way when the process ended."""

    path: str
    tool: str
    args: Any


class Answer:
    """A recorded answer."""

    def __init__(self, give: Callable[[], Any]) -> None:
        """``give`` returns it, or raises what came back."""
        self.give = give


def pick(exchanges: Iterable[Exchange], matches: Callable[[Exchange], bool]) -> Exchange | None:
    """Return the first exchange that has not been served and matches, and take it off."""
    for exchange in exchanges:
        if not exchange.is_served and matches(exchange):
            exchange.is_served = True
            return exchange
    return None


def unit_of(lane: str) -> str:
    """Return the task, method or execution that a lane belongs to: within it a failed call may have been repeated."""
    labels = lane.split("/")
    for end in range(len(labels), 1, -1):
        if labels[end - 1].startswith(("task[", "task:", "method[", "agent:")):
            return "/".join(labels[:end])
    return "/".join(labels[:2])
