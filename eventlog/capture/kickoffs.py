"""Kickoffs: what was asked for, who decides what it means, and what is left behind when one dies.

The wrapper takes down a kickoff's inputs before callbacks change them, lets a director resume it
(``playing.py``), and stores the result of one that stands at the top of a run
(``eventlog.execution_result``). CrewAI emits nothing when a kickoff dies of SystemExit,
KeyboardInterrupt or cancellation, and leaves its scopes: the wrapper records
``eventlog.execution_aborted`` and puts the scope stack back to what it was, so that the next
kickoff in the same context does not claim to be inside the dead one.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from crewai.agent.core import Agent
from crewai.context import capture_execution_context
from crewai.crew import Crew
from crewai.events.event_context import get_current_parent_id, restore_event_scope
from crewai.flow.async_feedback import HumanFeedbackPending
from crewai.flow.flow import Flow
from crewai.flow.runtime import Flow as RuntimeFlow
from crewai.lite_agent import LiteAgent
from crewai.task import Task
from crewai.utilities.agent_utils import is_inside_event_loop

from eventlog.capture.around import arguments
from eventlog.capture.beginnings import starting_state
from eventlog.capture.hub import hub
from eventlog.capture.patches import Patch
from eventlog.capture.playing import (
    MISSING,
    Director,
    before_kickoffs,
    current_kickoff,
    director,
    kickoff_of,
    playing,
    step_mark,
    within,
)
from eventlog.capture.scopes import in_for_each
from eventlog.logger import Logger
from eventlog.record import EXECUTION_RESULT, join_path
from eventlog.references import kind_of

if TYPE_CHECKING:
    from eventlog.capture.homes import Home
    from eventlog.capture.recorder import Recorder

log = Logger(__name__)
KICKOFFS = ("kickoff", "akickoff", "kickoff_async")
TASK_RUNS = ("execute_sync", "aexecute_sync")
FOR_EACH = ("kickoff_for_each", "kickoff_for_each_async", "akickoff_for_each")
ASKED = {"crew": "inputs", "flow": "inputs", "agent": "messages", "task": "context"}
"""Which argument tells one kickoff of a thing from another."""


class Kickoff:
    """One call of a kickoff method."""

    def __init__(self, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """``args[0]`` is the crew, flow, agent or task."""
        self.original, self.args, self.kwargs = original, args, kwargs
        self.entity = args[0]
        self.kind = kind_of(self.entity) or "?"
        self.is_async = inspect.iscoroutinefunction(inspect.unwrap(original))
        self.given = arguments(original, args, kwargs)
        self.step = step_mark.get()
        """Mark of the step it is part of."""
        self.live_calls: int | None = None
        """How often it asked the world, once it is over; ``None``: nobody counted."""
        self.places: dict[int, tuple[Recorder, Home, tuple[str, ...]]] = {}
        """Where it stands in each log, once it has begun; only for one at the top of a run."""
        self.is_placed = False
        self.began = starting_state(self.entity) if self.kind == "flow" else None
        """The state a flow begins with."""
        self._hashes: dict[int, str] = {}
        if self.kind != "task":  # callbacks may change what is asked; a task's context is a text
            hub.each(self._take_down)

    def _take_down(self, recorder: Recorder) -> None:
        """Keep the hash of what is asked now."""
        self.hash_for(recorder)

    @property
    def asked(self) -> Any:
        """What it is asked to work on; nothing given and nothing in it are the same. A flow also works on its state."""
        asked = self.given.get(ASKED.get(self.kind, ""), None) or None
        return {"inputs": asked, "state": self.began} if self.began else asked

    def hash_for(self, recorder: Recorder) -> str:
        """Return the hash of what was asked when it was called."""
        known = self._hashes.get(id(recorder))
        if known is None:
            known = self._hashes[id(recorder)] = recorder.hash_of(self.asked)
        return known

    def place(self, recorder: Recorder, home: Home, path: tuple[str, ...], *, is_root: bool) -> None:
        """Take note that the kickoff's first event is there."""
        self.is_placed = True
        if is_root:
            self.places[id(recorder)] = (recorder, home, path)
            if playing.get() is None:
                home.plain.add(join_path(path))
            if home.unfinished and playing.get() is None:
                home.unfinished = False  # said once
                log.warning("new_kickoff_in_unfinished_run", run=home.run, hint="run.kickoff(...) or eventlog resume")

    def replace(self, name: str, value: Any) -> None:
        """Give another value for one argument; the kickoff keeps its identity."""
        self.args, self.kwargs = self.args[:1], {**self.given, name: value}
        self.given = dict(self.kwargs)

    def call(self) -> Any:
        """Run the original with this kickoff as the current one; an asynchronous one when it is awaited."""
        return self._call_later() if self.is_async else self._call_now()

    def _call_now(self) -> Any:
        """Run a synchronous kickoff."""
        with within(current_kickoff, self):
            result = _guarded(self.original, self.args, self.kwargs)
        self._tell(result)
        return result

    async def _call_later(self) -> Any:
        """Run an asynchronous kickoff."""
        with within(current_kickoff, self):
            result = await _guarded(self.original, self.args, self.kwargs)
        self._tell(result)
        return result

    def _tell(self, result: Any) -> None:
        """Store the result in every log where this was a kickoff at the top."""
        if isinstance(result, HumanFeedbackPending):
            return
        for recorder, home, path in self.places.values():
            recorder.guarded(partial(_append_result, home=home, path=path, result=result))


_pending: dict[int, tuple[Any, Director]] = {}
"""Who decides about a kickoff that streams: CrewAI calls it again, from another context, when the stream is read."""


def patches() -> list[Patch]:
    """Wrap every way to start something."""
    classes = (Crew, Flow, RuntimeFlow, Agent, LiteAgent)
    starts = [(cls, name) for cls in classes for name in KICKOFFS]
    return [
        *(Patch(cls, name, _around_kickoff) for cls, name in starts if name in cls.__dict__),
        *(Patch(Task, name, _around_task) for name in TASK_RUNS),
        Patch(Task, "execute_async", _around_async_task),
        *(Patch(Crew, name, _for_each) for name in FOR_EACH if name in Crew.__dict__),
    ]


def _append_result(recorder: Recorder, home: Home, path: tuple[str, ...], result: Any) -> None:
    """Store what a kickoff returned."""
    recorder.append_at(home, path, EXECUTION_RESULT, {"result": {"value": result}})


def _around_kickoff(original: Callable[..., Any]) -> Callable[..., Any]:
    """Let the director decide, if there is one and nothing is under way."""

    def kickoff(*args: Any, **kwargs: Any) -> Any:
        outer = kickoff_of(args[0])
        if getattr(type(args[0]), "is_crewai_internal", False) or (outer is not None and not outer.is_placed):
            return _guarded(original, args, kwargs)  # a step of the kickoff that is beginning
        if original.__name__ == "kickoff" and kind_of(args[0]) == "agent" and is_inside_event_loop():
            return args[0].kickoff_async(*args[1:], **kwargs)  # as CrewAI does: the caller awaits it
        return _begin(Kickoff(original, args, kwargs))

    return kickoff


def _begin(kickoff: Kickoff) -> Any:
    """Run a kickoff, through the director where it stands at the top."""
    while before_kickoffs:
        before_kickoffs.pop()()
    pending = _pending_director(kickoff.entity)
    decides = director() or pending
    if decides is None or playing.get() is not None:
        return kickoff.call()
    if getattr(kickoff.entity, "stream", False) is True:
        _pending[id(kickoff.entity)] = (kickoff.entity, decides)
        return kickoff.call()
    return decides.direct(kickoff)


def _pending_director(entity: Any) -> Director | None:
    """Return who decides about the second half of a kickoff that streams."""
    found, decides = _pending.pop(id(entity), (None, None))
    return decides if found is entity and decides is not None and decides.is_open() else None


def _around_task(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return what a finished task returned; a task without a crew is a kickoff."""

    def execute(*args: Any, **kwargs: Any) -> Any:
        kickoff = Kickoff(original, args, kwargs)
        output = _finished(kickoff)
        if output is MISSING:
            return _begin(kickoff)
        return _later(output) if kickoff.is_async else output

    return execute


def _around_async_task(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return the future of what a finished task returned."""

    def execute_async(*args: Any, **kwargs: Any) -> Any:
        output = _finished(Kickoff(original, args, kwargs))
        future: Future[Any] = Future()
        if output is not MISSING:
            future.set_result(output)
        elif playing.get() is None and director() is not None:
            work = (_fulfil, future, args, kwargs)
            threading.Thread(target=copy_context().run, args=work, daemon=True).start()
        else:
            return original(*args, **kwargs)
        return future

    return execute_async


def _fulfil(future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Run a task without a crew in a thread of its own, as CrewAI does, but as a kickoff."""
    try:
        future.set_result(args[0].execute_sync(*args[1:], **kwargs))
    except BaseException as error:  # who waits for the future gets it
        future.set_exception(error)


def _finished(kickoff: Kickoff) -> Any:
    """Return the recorded output of a task."""
    player = playing.get()
    if player is None:
        return MISSING
    given = kickoff.given
    return player.task(get_current_parent_id(), kickoff.entity, given.get("agent"), given.get("context"))


async def _later(value: Any) -> Any:
    """Return a value to who awaits it."""
    return value


def _guarded(original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call, and clean up after a kickoff that died of something CrewAI does not catch."""
    if inspect.iscoroutinefunction(inspect.unwrap(original)):
        return _guarded_later(original, args, kwargs)
    before = capture_execution_context().event_id_stack
    try:
        return original(*args, **kwargs)
    except BaseException as error:
        _clean_up(before, error)
        raise


async def _guarded_later(original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The same for a coroutine."""
    before = capture_execution_context().event_id_stack
    try:
        return await original(*args, **kwargs)
    except BaseException as error:
        _clean_up(before, error)
        raise


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
