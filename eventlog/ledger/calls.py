"""What a person asked to be done once, as a call: its item, its function, and what tells it from others."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Literal

import msgspec

from eventlog.errors import EventLogError, StepError
from eventlog.references import kind_of

OnStale = Literal["rerun", "keep", "fail"]
ON_STALE = ("rerun", "keep", "fail")


class StepOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a step is done."""

    retries: int = 0
    """How often a failed attempt is followed by another one, within one call."""
    retry_wait_s: float = 0.0
    """Seconds before the first of them; twice as many before each next."""
    depends_on: Collection[str] = ()
    """Items whose results this one is made of; they must be completed."""
    on_stale: OnStale = "rerun"
    """A completed step whose inputs are others now: ``rerun``, ``keep`` its result, or ``fail``."""
    wait: bool = True
    """Wait for another worker that has the item; else ``StepBusyError``."""
    result_type: Any = None
    """Class of the result, if neither an annotation nor the live arguments tell it."""

    def __post_init__(self) -> None:
        """Refuse what means nothing.

        Raises:
            EventLogError: an option has no such value.
        """
        if self.on_stale not in ON_STALE:
            raise EventLogError(f"on_stale={self.on_stale!r}: use one of {', '.join(ON_STALE)}")
        if self.retries < 0 or self.retry_wait_s < 0:
            raise EventLogError("retries and retry_wait_s must not be negative")
        if isinstance(self.depends_on, str):
            raise EventLogError(f"depends_on={self.depends_on!r}: give a list of items")


class Call(msgspec.Struct, frozen=True):
    """What is to be done for an item."""

    item: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    options: StepOptions
    inputs: Any
    """What tells this call from others."""

    def now(self) -> Any:
        """Return what the function returns.

        Raises:
            StepError: that has to be awaited.
        """
        value = self.function(*self.args, **self.kwargs)
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise StepError(self.item, "its function is asynchronous: await run.astep(...)")
        return value

    async def later(self) -> Any:
        """Return what the function returns, awaited if need be."""
        value = self.function(*self.args, **self.kwargs)
        return await value if inspect.isawaitable(value) else value

    def classes(self) -> dict[str, type]:
        """Return the classes that the result may be made of."""
        from eventlog.ledger.results import classes_of  # noqa: PLC0415 - imports CrewAI

        return classes_of(self.function, (*self.args, *self.kwargs.values()), self.options.result_type)


def arguments_of(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a function works on: its arguments by name, defaults included, however they were given.

    What ``functools.partial`` holds counts, and the crew, flow, agent or task whose method it is; the state of any
    other object does not: it changes while the method works.
    """
    while isinstance(function, partial):
        args, kwargs, function = (*function.args, *args), {**function.keywords, **kwargs}, function.func
    owner = getattr(function, "__self__", None)
    whose = {} if kind_of(owner) is None else {"self": owner}
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):  # it has none, or the call will fail: let it
        return {**whose, "args": args, "kwargs": dict(kwargs)}
    bound.apply_defaults()
    return {**whose, **bound.arguments}
