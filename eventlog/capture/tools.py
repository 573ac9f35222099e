"""Tool calls: ``eventlog.tool_exchange`` holds what the function itself returned, before formatting.

ReAct agents call the function of a structured tool, native function calling calls ``run``;
a tool that runs other agents (delegation) is marked: those are recorded by themselves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from crewai.tools.base_tool import BaseTool, Tool

from eventlog.capture.around import arguments, observed
from eventlog.capture.hub import hub
from eventlog.capture.patches import Patch


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
    """Call the function and store the exchange."""

    def report(result: Any, error: BaseException | None) -> None:
        fields = {"tool": getattr(tool, "name", None), "args": given, "result": {"value": result}, "error": error}
        hub.each(lambda r: r.append_numbered("eventlog.tool_exchange", fields))

    return observed(lambda: function(*args, **kwargs), report)
