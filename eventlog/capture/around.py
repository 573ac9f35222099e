"""Shared by the boundaries: run a call, sync or async, and tell the recorders how it went."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from crewai.events.event_context import get_current_parent_id

from eventlog.capture.hub import hub
from eventlog.capture.playing import Player, Served

Report = Callable[[Any, "BaseException | None"], None]
"""Called with the result, or with the exception."""


def observed(call: Callable[[], Any], report: Report) -> Any:
    """Return what ``call`` returns, after reporting it; an awaitable is reported when it is done."""
    try:
        result = call()
    except Exception as error:
        report(None, error)
        raise
    if inspect.iscoroutine(result):
        return _observed_later(result, report)
    report(result, None)
    return result


async def _observed_later(result: Any, report: Report) -> Any:
    """Wait for the result and report it."""
    try:
        value = await result
    except Exception as error:
        report(None, error)
        raise
    report(value, None)
    return value


def given_back(served: Served, function: Callable[..., Any]) -> Any:
    """Return what a recorded call returned, as a coroutine where ``function`` returns one."""
    return _given_back_later(served) if inspect.iscoroutinefunction(inspect.unwrap(function)) else served.give()


async def _given_back_later(served: Served) -> Any:
    """Return it to who awaits it."""
    return served.give()


def lane_of(player: Player) -> str:
    """Return the path of the scope this context is in."""
    return player.recorder.scopes.lane(get_current_parent_id())


def alone(inside: ContextVar[Any], call: Callable[[], Any], value: Any = True) -> Any:
    """Return what ``call`` returns, with ``inside`` set meanwhile; in a coroutine, while that runs."""
    token = inside.set(value)
    try:
        result = call()
    finally:
        inside.reset(token)
    return _alone_later(inside, result, value) if inspect.iscoroutine(result) else result


async def _alone_later(inside: ContextVar[Any], result: Any, value: Any) -> Any:
    """Wait for the result with ``inside`` set."""
    token = inside.set(value)
    try:
        return await result
    finally:
        inside.reset(token)


def arguments(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return a call's arguments by name, ``self`` left out; whatever does not fit the signature by position."""
    try:
        bound = dict(inspect.signature(function).bind_partial(*args, **kwargs).arguments)
    except TypeError:
        return {"args": list(args[1:]), **kwargs}
    bound.pop("self", None)
    for inner in ("kwargs", "_kwargs"):
        bound.update(bound.pop(inner, {}) if isinstance(bound.get(inner), dict) else {})
    return bound


def append(event_type: str, fields: dict[str, Any]) -> None:
    """Store an exchange in every log that records here."""
    hub.each(lambda recorder: recorder.append_own(event_type, fields))
