"""What a crew's memory is asked and told: ``eventlog.memory_exchange``; the store itself is not in the log."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from crewai.memory.unified_memory import Memory

from eventlog.capture.around import alone, arguments, given_back, lane_of, observed
from eventlog.capture.hub import hub
from eventlog.capture.patches import Patch
from eventlog.capture.playing import player_here

OPERATIONS = ("recall", "remember", "remember_many", "extract_memories", "forget", "update")
inside: ContextVar[bool] = ContextVar("eventlog_memory", default=False)
"""Set while an operation runs: its async form calls the other one."""


def patches() -> list[Patch]:
    """Wrap the operations, and their async twins where the class has them."""
    names = [n for op in OPERATIONS for n in (op, f"a{op}") if n in Memory.__dict__]
    return [Patch(Memory, name, _recorded(name)) for name in names]


def _recorded(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Record one operation."""

    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:
            if inside.get():
                return original(*args, **kwargs)
            given = arguments(original, args, kwargs)
            player = player_here()
            if player is not None:
                served = player.memory(lane_of(player), name, given)
                if served is not None:
                    return given_back(served, original)

            def report(result: Any, error: BaseException | None) -> None:
                fields = {"operation": name, "args": given, "result": {"value": result}, "error": error}
                hub.each(lambda r: r.append_numbered("eventlog.memory_exchange", fields))

            return observed(lambda: alone(inside, lambda: original(*args, **kwargs)), report)

        return operation

    return around
