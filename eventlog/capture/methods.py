"""Methods of flows: one that finished in an earlier process is not run again, it returns what it returned."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from crewai.flow.runtime import Flow

from eventlog.capture.around import lane_of
from eventlog.capture.patches import Patch
from eventlog.capture.playing import MISSING, Player, playing

EXECUTE = "_execute_method"


def patches() -> list[Patch]:
    """Wrap the place where a flow runs one of its methods: inside the method's scope nobody has run it yet."""
    return [Patch(Flow, EXECUTE, _around)] if EXECUTE in Flow.__dict__ else []


def _around(original: Callable[..., Any]) -> Callable[..., Any]:
    """Put the player before the method."""

    def execute_method(self: Any, name: Any, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        player = playing.get()
        if player is not None and not getattr(type(self), "is_crewai_internal", False):
            method = _played(player, self, method)
        return original(self, name, method, *args, **kwargs)

    return execute_method


def _played(player: Player, flow: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that asks the player first."""
    if asyncio.iscoroutinefunction(method):  # CrewAI's own methods carry asyncio's mark

        @functools.wraps(method)
        async def played_later(*args: Any, **kwargs: Any) -> Any:
            result = player.method(lane_of(player), flow)
            return await method(*args, **kwargs) if result is MISSING else result

        return played_later

    @functools.wraps(method)
    def played(*args: Any, **kwargs: Any) -> Any:
        result = player.method(lane_of(player), flow)
        return method(*args, **kwargs) if result is MISSING else result

    return played
