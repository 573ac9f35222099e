"""Model calls: ``eventlog.llm_exchange`` and ``eventlog.token_count``.

The exchange names the request by a hash of what was really sent (CrewAI's events flatten
nested values to ``repr`` below depth five) and points at the ``llm_call_completed`` event
instead of repeating its response; a response that event does not hold exactly is added.
A model that emits no events is recorded whole.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import msgspec
from crewai.events.event_context import get_current_parent_id
from crewai.llms.base_llm import BaseLLM

from eventlog.capture import memory
from eventlog.capture.around import arguments, observed
from eventlog.capture.hub import hub, in_boundary
from eventlog.capture.patches import Patch
from eventlog.capture.playing import MISSING, player_here
from eventlog.codec import Request
from eventlog.references import class_name

CALLS = ("call", "acall")
COUNT = "get_input_tokens_count"
TRACK = "_track_token_usage_internal"


class Call(msgspec.Struct):
    """A model call under way: filled in by the events it emits."""

    completed: str | None = None
    """Id of its ``llm_call_completed`` event."""
    response: Any = None
    """What that event says came back."""
    failed: str | None = None
    """Id of its ``llm_call_failed`` event."""
    started: bool = False
    """Whether it told what it was asked."""
    usage: dict[str, int] = {}
    """Tokens its model counted for it."""
    counting: bool = False


current_call: ContextVar[Call | None] = ContextVar("eventlog_llm_call", default=None)


def observe(event: Any) -> None:
    """Take note of the events of the call that runs in this context."""
    kind = event.type
    if not kind.startswith("llm_call_"):
        return
    call = current_call.get()
    if call is None:
        return
    if kind == "llm_call_completed":
        call.completed, call.response = event.event_id, event.response
    elif kind == "llm_call_failed":
        call.failed = event.event_id
    else:
        call.started = True


def patches() -> list[Patch]:
    """Wrap every model class there is, and have the ones to come wrapped too."""
    found = [p for cls in _subclasses(BaseLLM) for p in _patches_of(cls)]
    return [*found, Patch(BaseLLM, TRACK, _around_track), Patch(BaseLLM, "_wrap_call_method", _wrap_newcomers)]


def _subclasses(cls: type) -> Iterator[type]:
    """Yield all classes below ``cls``, each once."""
    seen: set[type] = set()
    waiting: list[type] = [cls]
    while waiting:
        below: list[type] = type.__subclasses__(waiting.pop())
        for sub in below:
            if sub not in seen:
                seen.add(sub)
                waiting.append(sub)
                yield sub


def _patches_of(cls: type) -> list[Patch]:
    """Wrap the calls a class defines itself. The base class counts tokens from the text alone: no boundary."""
    names = [n for n in CALLS if n in cls.__dict__]
    out = [Patch(cls, name, _around_call) for name in names]
    if COUNT in cls.__dict__:
        out.append(Patch(cls, COUNT, _around_count))
    if TRACK in cls.__dict__:
        out.append(Patch(cls, TRACK, _around_track))
    return out


def _wrap_newcomers(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap classes made while we record (providers are imported when first used)."""

    def wrap_call_method(cls: type, name: str) -> Any:
        result = original(cls, name)
        for patch in _patches_of(cls):
            hub.patch(patch)
        return result

    return wrap_call_method


def _around_call(original: Callable[..., Any]) -> Callable[..., Any]:
    """Record a call unless it is part of one that is recorded already."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if in_boundary.get():
            return original(self, *args, **kwargs)
        return _Exchange(self, _given(original, (self, *args), kwargs)).run(original, (self, *args), kwargs)

    return call


def _given(original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return a call's arguments by name, also of a class that hands on ``*args, **kwargs``."""
    given = arguments(original, args, kwargs)
    return given if "messages" in given else arguments(BaseLLM.call, args, kwargs)


class _Exchange:
    """One request to a model and what came of it."""

    def __init__(self, llm: Any, given: dict[str, Any]) -> None:
        """Take down the request before anybody changes the messages."""
        self._llm, self._call, self._given = llm, Call(), given
        self._parent = get_current_parent_id()
        messages, model = given.get("messages"), given.get("response_model")
        self._request = Request(
            messages=list(messages) if isinstance(messages, list) else [{"role": "user", "content": messages}],
            tools=given.get("tools"),
            model=str(getattr(llm, "model", "")),
            response_model=class_name(model) if model is not None else None,
        )
        self._names: dict[int, str] = {}
        hub.each(lambda r: self._names.__setitem__(id(r), r.encoder.request_name(self._request)))

    def run(self, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make the call with this exchange as the current one, unless its answer is on the tape."""
        if inspect.iscoroutinefunction(inspect.unwrap(original)):
            return self._run_later(original, args, kwargs)
        answer = self._recorded()
        if answer is not MISSING:
            return answer
        tokens = in_boundary.set(True), current_call.set(self._call)
        try:
            return observed(lambda: original(*args, **kwargs), self._report)
        finally:
            in_boundary.reset(tokens[0])
            current_call.reset(tokens[1])

    async def _run_later(self, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The same for a coroutine."""
        answer = self._recorded()
        if answer is not MISSING:
            return answer
        tokens = in_boundary.set(True), current_call.set(self._call)
        try:
            return await observed(lambda: original(*args, **kwargs), self._report)
        finally:
            in_boundary.reset(tokens[0])
            current_call.reset(tokens[1])

    def _recorded(self) -> Any:
        """Return the recorded answer, which may be an error to raise."""
        player = player_here()
        if player is None:
            return MISSING
        name = self._names.get(id(player.recorder), "")
        return player.llm(player.recorder.scopes.lane(self._parent), name, self._request, self._llm, self._given)

    def _report(self, result: Any, error: BaseException | None) -> None:
        """Store the exchange in every log."""
        hub.each(lambda recorder: self._append(recorder, result, error))

    def _append(self, recorder: Any, result: Any, error: BaseException | None) -> None:
        """Store the exchange; the response only where no event holds it exactly."""
        call, request = self._call, self._request
        fields: dict[str, Any] = {
            "request": self._names.get(id(recorder)),
            "model": request.model,
            "response_model": request.response_model,
            "completed": call.completed,
            "failed": call.failed,
            "error": error,
        }
        if memory.inside.get():
            fields["inside"] = "memory"
        if not call.started:
            fields |= {"messages": request.messages, "tools": request.tools}
        is_told = call.completed is not None and "llm_call_completed" not in recorder.omits
        if error is None and not (is_told and _same(call.response, result)):
            fields["response"] = {"value": result}
        if error is None and not is_told:
            fields["usage"] = call.usage or None
        recorder.append_numbered("eventlog.llm_exchange", fields, self._parent)


def _same(told: Any, result: Any) -> bool:
    """Whether the event's response is the result itself; equal plain values only."""
    if type(result) is str:
        return bool(told == result)
    return type(told) is type(result) and type(result) in (list, dict) and bool(told == result)


def _around_count(original: Callable[..., Any]) -> Callable[..., Any]:
    """Record a token count: for many providers it is a request over the network that no event shows."""

    def count(self: Any, *args: Any, **kwargs: Any) -> Any:
        if in_boundary.get():
            return original(self, *args, **kwargs)
        known = _recorded_count(lambda: BaseLLM.get_input_tokens_count(self, *args, **kwargs))
        if known is not MISSING:
            return known
        token = in_boundary.set(True)
        try:
            tokens = original(self, *args, **kwargs)
        finally:
            in_boundary.reset(token)
        model = str(getattr(self, "model", ""))
        hub.each(lambda recorder: recorder.append_numbered("eventlog.token_count", {"model": model, "tokens": tokens}))
        return tokens

    return count


def _recorded_count(estimate: Callable[[], int]) -> Any:
    """Return the next recorded token count of this scope."""
    player = player_here()
    return MISSING if player is None else player.count(player.recorder.scopes.lane(get_current_parent_id()), estimate)


def _around_track(original: Callable[..., Any]) -> Callable[..., Any]:
    """Add the tokens that a model counts to its call: the model's own sums mix the calls of all threads."""

    def track(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = current_call.get()
        if call is None or call.counting:
            return original(self, *args, **kwargs)
        call.counting, before = True, dict(getattr(self, "_token_usage", {}))
        try:
            return original(self, *args, **kwargs)
        finally:
            call.counting = False
            gained = {k: v - before.get(k, 0) for k, v in getattr(self, "_token_usage", {}).items()}
            call.usage = {k: call.usage.get(k, 0) + v for k, v in gained.items() if v or k in call.usage}

    return track
