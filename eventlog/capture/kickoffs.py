"""Kickoffs: CrewAI emits nothing when one dies of SystemExit, KeyboardInterrupt or cancellation, and leaves its scopes.

The wrapper records ``eventlog.execution_aborted`` and puts the scope stack back to what it
was, so that the next kickoff in the same context does not claim to be inside the dead one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from crewai.agent.core import Agent
from crewai.context import capture_execution_context
from crewai.crew import Crew
from crewai.events.event_context import get_current_parent_id, restore_event_scope
from crewai.flow.flow import Flow
from crewai.flow.runtime import Flow as RuntimeFlow
from crewai.lite_agent import LiteAgent
from crewai.task import Task

from eventlog.capture.hub import hub
from eventlog.capture.patches import Patch
from eventlog.capture.scopes import in_for_each

KICKOFFS = ("kickoff", "akickoff", "kickoff_async")
TASK_RUNS = ("execute_sync", "aexecute_sync")
FOR_EACH = ("kickoff_for_each", "kickoff_for_each_async", "akickoff_for_each")


def patches() -> list[Patch]:
    """Wrap every way to start something."""
    classes = (Crew, Flow, RuntimeFlow, Agent, LiteAgent)
    starts = [(cls, name) for cls in classes for name in KICKOFFS] + [(Task, name) for name in TASK_RUNS]
    return [
        *(Patch(cls, name, _guarded) for cls, name in starts if name in cls.__dict__),
        *(Patch(Crew, name, _for_each) for name in FOR_EACH if name in Crew.__dict__),
    ]


def _guarded(original: Callable[..., Any]) -> Callable[..., Any]:
    """Clean up after a kickoff that died of something CrewAI does not catch."""
    if inspect.iscoroutinefunction(inspect.unwrap(original)):

        async def kickoff_later(*args: Any, **kwargs: Any) -> Any:
            before = capture_execution_context().event_id_stack
            try:
                return await original(*args, **kwargs)
            except BaseException as error:
                _clean_up(before, error)
                raise

        return kickoff_later

    def kickoff(*args: Any, **kwargs: Any) -> Any:
        before = capture_execution_context().event_id_stack
        try:
            return original(*args, **kwargs)
        except BaseException as error:
            _clean_up(before, error)
            raise

    return kickoff


def _clean_up(before: tuple[tuple[str, str], ...], error: BaseException) -> None:
    """Record what died and forget its scopes; after an ordinary exception CrewAI has done both."""
    top = get_current_parent_id()
    keep = before[-1][0] if before else None
    if isinstance(error, Exception) or top == keep:
        return
    hub.each(lambda recorder: recorder.abort(top, keep, error))
    restore_event_scope(before)


def _for_each(original: Callable[..., Any]) -> Callable[..., Any]:
    """Tell the copies of one crew apart by their inputs: they may start in any order."""
    if inspect.iscoroutinefunction(inspect.unwrap(original)):

        async def for_each_later(*args: Any, **kwargs: Any) -> Any:
            token = in_for_each.set(True)
            try:
                return await original(*args, **kwargs)
            finally:
                in_for_each.reset(token)

        return for_each_later

    def for_each(*args: Any, **kwargs: Any) -> Any:
        token = in_for_each.set(True)
        try:
            return original(*args, **kwargs)
        finally:
            in_for_each.reset(token)

    return for_each
