"""The places where a crew meets the world and CrewAI's events do not tell enough: what was asked, what came back."""

from __future__ import annotations

from typing import Any

from eventlog.capture import human, kickoffs, llm, memory, methods, restores, tasks, tools
from eventlog.capture.patches import Patch


def all_patches() -> list[Patch]:
    """Return every method to wrap while something is recorded."""
    return [
        *kickoffs.patches(),
        *llm.patches(),
        *tools.patches(),
        *tasks.patches(),
        *methods.patches(),
        *human.patches(),
        *memory.patches(),
        *restores.patches(),
    ]


def observe(event: Any) -> None:
    """Let the boundaries see an event before it is stored."""
    llm.observe(event)
