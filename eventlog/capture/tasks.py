"""Conditional tasks that are skipped: no event of CrewAI names them, ``eventlog.task_skipped`` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crewai.events.event_context import get_current_parent_id
from crewai.tasks.conditional_task import ConditionalTask

from eventlog.capture.around import append
from eventlog.capture.keys import stable_key
from eventlog.capture.patches import Patch
from eventlog.capture.playing import playing
from eventlog.references import read_fact


def patches() -> list[Patch]:
    """Wrap the decision."""
    return [Patch(ConditionalTask, "should_execute", _around)]


def _around(original: Callable[..., Any]) -> Callable[..., Any]:
    """Record a decision not to run."""

    def should_execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        player = playing.get()
        known = None if player is None else player.condition(get_current_parent_id(), self)
        if known is not None:
            return known
        runs = original(self, *args, **kwargs)
        if not runs:
            append("eventlog.task_skipped", {"task_id": read_fact(self, "id"), "key": stable_key(self)})
        return runs

    return should_execute
