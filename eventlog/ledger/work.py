"""What a run offers for long pipelines: steps that are done once."""

from __future__ import annotations

import functools
import inspect
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

from eventlog.errors import EventLogError
from eventlog.ledger.book import Source
from eventlog.ledger.calls import Call, StepOptions, arguments_of
from eventlog.ledger.events import SessionOpened
from eventlog.ledger.ledger import Desk, Ledger
from eventlog.logger import Logger
from eventlog.writer import Writer, instead

if TYPE_CHECKING:
    from eventlog.ledger.steps import Steps

Items = Collection[str] | Mapping[str, Collection[str]]
"""All that is to be done, in order; a mapping says for each what comes before it."""
F = TypeVar("F", bound=Callable[..., Any])
_AS_CALLED: Any = object()
"""A step's inputs are its function's arguments."""

log = Logger(__name__)


class WorkDesk(Desk):
    """A book with its folds, and who does its steps."""

    def __init__(self, source: Source, run: str, branch: str, director: Callable[[], Any]) -> None:
        """``director()`` decides about the kickoffs of the run."""
        super().__init__(source, run, branch)
        self._director = director
        self.is_open = False
        """Whether it is on record that this pass goes on with the session."""

    @cached_property
    def steps(self) -> Steps:
        """Who does the steps."""
        from eventlog.ledger.steps import Steps  # noqa: PLC0415 - imports CrewAI

        steps = Steps(self.book, self.progress, self._director)
        steps.on_done_again = self.memory.retire
        return steps

    def name_memory(self, saved: object) -> tuple[str, str] | None:
        """Return id and origin of what a step saves: when it begins again after a crash, nothing is saved twice."""
        return self.steps.name_memory(saved) if "steps" in self.__dict__ else None


class Work(Ledger):
    """A ledger whose steps this process does; the base of ``Run``."""

    def __init__(self, source: Source, run: str, branch: str, items: Items | None) -> None:
        """``items``: all that is to be done, in order; a mapping also says what comes before each."""
        super().__init__(source, run, branch)
        if isinstance(items, str):
            raise EventLogError(f"items={items!r}: give a list of items")
        self.items = None if items is None else list(items)
        self.plan = {item: list(before) for item, before in items.items()} if isinstance(items, Mapping) else {}
        unknown = {name for before in self.plan.values() for name in before} - self.plan.keys()
        if unknown:
            raise EventLogError(f"items: {', '.join(sorted(unknown))} come before others, and are no items themselves")

    @abstractmethod
    def _director_of_this_pass(self) -> Any:
        """Return who decides about the kickoffs of this run."""

    @abstractmethod
    def _inside(self) -> AbstractContextManager[None]:
        """Be inside the run for a block."""

    def _make_desk(self, source: Source, run: str, branch: str) -> WorkDesk:
        """Return a book with its folds, and who does its steps."""
        return WorkDesk(source, run, branch, self._director_of_this_pass)

    def _at_desk(self) -> WorkDesk:
        """Return the book that counts here, its folds, and who does its steps."""
        return cast("WorkDesk", super()._at_desk())

    def _elsewhere(self) -> Writer | None:
        """Return where the work goes when it is executed again, by itself or with the whole program."""
        from eventlog.capture.playing import program_reexecutor  # noqa: PLC0415 - a list that changes

        again = program_reexecutor[-1] if program_reexecutor else None
        return instead.get() or (again.writer if again is not None and again.run == self._names[0] else None)

    def _open_session(self) -> WorkDesk:
        """Say, once per pass, that somebody goes on with the session."""
        desk = self._at_desk()
        if not desk.is_open:
            items = None if self.items is None else [self._name(item) for item in self.items]
            plan = {self._name(item): [self._name(name) for name in before] for item, before in self.plan.items()}
            desk.is_open = True  # before it is: another thread of this pass says it no second time
            try:
                desk.book.append(SessionOpened(items=items, depends_on=plan or None))
            except BaseException:
                desk.is_open = False
                raise
        return desk

    def _begin_session(self) -> None:
        """Say so when the run is entered; a file that cannot be written at the moment hears it with the first step."""
        if self.items is None or instead.get() is not None:
            return
        try:
            self._open_session()
        except EventLogError as error:
            log.warning("session_not_opened", run=self._names[0], error=str(error))

    # -- steps ----------------------------------------------------------------------------------

    def step(self, item: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Return ``function(*args, **kwargs)``, done once: completed before with the same arguments, its result.

        Options go with the arguments: ``retries``, ``retry_wait_s``, ``depends_on``, ``on_stale``, ``wait``,
        ``result_type`` (see ``eventlog.StepOptions``); a function with parameters of these names needs
        ``functools.partial``. With other arguments, or other results of what it depends on, a completed step is
        stale and done again. Kickoffs in it are this run's: after a crash they go on where they were. Several
        workers share a run's items; one that another worker has is waited for.

        A result comes back as it was: text, numbers, lists, dicts, outputs of CrewAI, and models and dataclasses
        that the function's annotation, ``result_type`` or a live argument declares.

        Raises:
            StepError: see its kinds: blocked, busy, out of order, stale.
            Exception: what the function raised in the last attempt; it is on record.
        """
        with self._inside():
            return self._open_session().steps.run(self._call(item, function, args, kwargs))

    async def astep(self, item: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """``step`` for a function that returns an awaitable, without blocking the event loop."""
        with self._inside():
            return await self._open_session().steps.arun(self._call(item, function, args, kwargs))

    def task_step(
        self, name: str | Callable[..., Any] | None = None, *, inputs: Any = _AS_CALLED, **options: Any
    ) -> Any:
        """Return a decorator that makes a function a step: ``@run.task_step`` or ``@run.task_step("scan-{module}")``.

        The item is called ``name``, filled in with the arguments, or like the function. ``inputs`` tell one call from
        another instead of the arguments: a value, or a function of the arguments. An asynchronous function stays one.
        """
        if callable(name):
            return self._made_step(name, name.__name__, inputs, options)
        return lambda function: self._made_step(function, name or function.__name__, inputs, options)

    def _made_step(self, function: F, name: str, inputs: Any, options: dict[str, Any]) -> F:
        """Return a function that is done once."""
        StepOptions(**options)  # what means nothing is refused at once

        def call_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
            given = arguments_of(function, args, kwargs)
            told = inputs(*args, **kwargs) if callable(inputs) else given if inputs is _AS_CALLED else inputs
            item = _filled_in(name, given) if "{" in name else name
            return Call(self._name(item), function, args, kwargs, self._chosen(item, options), told)

        @functools.wraps(function)
        def step(*args: Any, **kwargs: Any) -> Any:
            with self._inside():
                return self._open_session().steps.run(call_of(args, kwargs))

        @functools.wraps(function)
        async def astep(*args: Any, **kwargs: Any) -> Any:
            with self._inside():
                return await self._open_session().steps.arun(call_of(args, kwargs))

        return astep if inspect.iscoroutinefunction(function) else step  # type: ignore[return-value]  # same signature

    def take(self, items: Collection[str] | None = None) -> Iterator[str]:
        """Yield the items (default: all of the session) that nobody has, each for this worker alone.

        ``for item in run.take(): run.step(item, work, item)`` in any number of processes does each item once. An item
        is kept from the others until its step is done or the loop goes on. With ``items={item: [what comes before],
        …}`` an item comes when everything before it is done, and the loop waits for that while others are at it.
        Each comes once per loop, also one that failed before; it ends when nothing can become free any more.
        """
        with self._inside():
            steps = self._open_session().steps
            yield from steps.take(None if items is None else [self._name(item) for item in items])

    def _call(self, item: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Return what is to be done."""
        options = {key: kwargs.pop(key) for key in StepOptions.__struct_fields__ if key in kwargs}
        if not callable(function):
            raise EventLogError(f"step {item!r}: give a function and its arguments, not {type(function).__name__}")
        inputs = arguments_of(function, args, kwargs)
        return Call(self._name(item), function, args, kwargs, self._chosen(item, options), inputs)

    def _chosen(self, item: str, options: dict[str, Any]) -> StepOptions:
        """Return how a step is done; what comes before it is what the plan says, unless the options do."""
        return StepOptions(**{"depends_on": self.plan.get(item, ()), **options})


def _filled_in(name: str, given: dict[str, Any]) -> str:
    """Return the name of an item with arguments in it.

    Raises:
        EventLogError: it names one that there is not.
    """
    try:
        return name.format(**given)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        known = ", ".join(given) or "none"
        raise EventLogError(f"the name {name!r} cannot be filled in ({error}); the arguments are: {known}") from None
