"""Tool calls: ``eventlog.tool_exchange`` holds what the function itself returned, before formatting.

ReAct agents call the function of a structured tool, native function calling calls ``run``.
While it runs, a tool can ask for its idempotency key: the same in every process for the same
use, so that a payment that was under way when a process died is not made twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from crewai.events.event_context import get_current_parent_id
from crewai.tools.base_tool import BaseTool, Tool

from eventlog.capture.around import alone, arguments, given_back, lane_of, observed
from eventlog.capture.hub import hub
from eventlog.capture.patches import Patch
from eventlog.capture.playing import player_here
from eventlog.record import join_path


def patches() -> list[Patch]:
    """Wrap the two ways a tool is called."""
    runs = [Patch(cls, name, _around_run) for cls in (BaseTool, Tool) for name in ("run", "arun")]
    return [Patch(BaseTool, "to_structured_tool", _around_structured), *runs]


def _around_structured(original: Callable[..., Any]) -> Callable[..., Any]:
    """Have the structured tool call a recorded function."""

    def to_structured_tool(self: Any) -> Any:
        structured = original(self)
        function = structured.func

        @functools.wraps(function)
        def recorded(*args: Any, **kwargs: Any) -> Any:
            return _recorded(self, function, args, kwargs, arguments(function, args, kwargs))

        structured.func = recorded
        return structured

    return to_structured_tool


def _around_run(original: Callable[..., Any]) -> Callable[..., Any]:
    """Record ``tool.run(...)``, whoever calls it."""

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _recorded(self, original, (self, *args), kwargs, arguments(original, (self, *args), kwargs))

    return run


def _recorded(
    tool: Any, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], given: dict[str, Any]
) -> Any:
    """Call the function and store the exchange, unless the tape has its result."""
    player = player_here()
    if player is not None:
        served = player.tool(lane_of(player), tool, given)
        if served is not None:
            return given_back(served, function)

    def report(result: Any, error: BaseException | None) -> None:
        fields = {"tool": getattr(tool, "name", None), "args": given, "result": {"value": result}, "error": error}
        hub.each(lambda r: r.append_numbered("eventlog.tool_exchange", fields))

    return observed(lambda: alone(_use, lambda: function(*args, **kwargs), _current_use()), report)


def _current_use() -> str | None:
    """Return the run and the logical path of the tool use that this context is in."""
    parent = get_current_parent_id()
    scopes = (recorder.scopes.scope(parent) for recorder in hub.recorders_here())
    return next((scope.home.run + join_path(scope.path) for scope in scopes if scope is not None), None)


_use: ContextVar[str | None] = ContextVar("eventlog_tool_use", default=None)


def idempotency_key() -> str | None:
    """Return the key of the tool use this code runs in: run and logical path; ``None`` outside of one."""
    return _use.get()
