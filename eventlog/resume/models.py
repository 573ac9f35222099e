"""Model calls from the tape: find the exchange, tell CrewAI's listeners, count the tokens, return the response."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crewai.events.event_context import get_current_parent_id
from crewai.events.types.llm_events import LLMCallType
from crewai.llms.base_llm import llm_call_context
from pydantic import BaseModel, ValidationError

from eventlog.capture.hub import in_boundary
from eventlog.capture.playing import MISSING, serving, within
from eventlog.codec import Request
from eventlog.logger import Logger
from eventlog.references import class_name
from eventlog.requests import MESSAGE_KEYS, moments, volatile_ids
from eventlog.resume.exchanges import Exchange, pick
from eventlog.resume.marks import calm
from eventlog.resume.revive import UnrevivableError, revive, revive_error

if TYPE_CHECKING:
    from eventlog.resume.player import TapePlayer

log = Logger(__name__)


def respond(player: TapePlayer, lane: str, name: str, request: Request, llm: Any, given: dict[str, Any]) -> Any:
    """Return the recorded response; ``MISSING`` when the model has to be asked.

    Raises:
        DivergedError: something else was asked here, and the policy says to stop.
        Exception: the recorded call raised.
    """
    player.go_on()
    exchange = _find(player, lane, name, request)
    if exchange is None:
        return _go_live(player)
    if exchange.failed:
        return _fail(player, exchange, llm, given)
    try:
        response = response_of(player, exchange, given.get("response_model"))
    except UnrevivableError as error:
        log.warning("not_served", what="llm", where=lane, reason=str(error))
        return _go_live(player)
    with player.lock:
        player.tally.llm_served += 1
    tell(llm, player, exchange, response, given)
    if exchange.fields.get("request") is None:
        _complete_record(player, exchange, name, request)
    return response


def _complete_record(player: TapePlayer, exchange: Exchange, name: str, request: Request) -> None:
    """Store the exchange of a call whose process died before it could."""
    fields = {
        "request": name, "model": request.model, "response_model": request.response_model,
        "completed": exchange.fields.get("completed"),
    }  # fmt: skip
    exchange.fields = {**exchange.fields, "request": name}
    player.recorder.guarded(lambda r: r.append_numbered("eventlog.llm_exchange", fields))


def _go_live(player: TapePlayer) -> Any:
    """The model has to be asked."""
    player.go_on()
    with player.lock:
        player.tally.llm_live += 1
        player.tape.marks.forget_call(player.recorder.scopes.next_path(get_current_parent_id(), "llm"))
    return MISSING


def _find(player: TapePlayer, lane: str, name: str, request: Request) -> Exchange | None:
    """Return the exchange of this request in this lane: the same request, whatever its turn; else by the policy."""
    with player.lock:
        here = player.tape.llm.get(lane, [])
        exchange = _same_request(player, [e for e in here if e.fields.get("request") == name], request)
        exchange = exchange or pick(here, lambda e: e.fields.get("request") is None and _asks(player, e, request))
        left = next((e for e in here if not e.is_served), None)
        if exchange is None and left is not None:
            player.diverged(
                player.difference(lane, "llm", recorded_request(player, left), request_tree(player, request))
            )
            if player.policy.on_change == "lenient":
                left.is_served, exchange = True, left
    return exchange


def _same_request(player: TapePlayer, named: list[Exchange], request: Request) -> Exchange | None:
    """Return the exchange of a request among those that differ from it in ids and times at most.

    One that is equal comes first. Else ids may differ as they do from process to process, each by the same other
    one, but not those that the kickoff was given or that its definition names: they are what the request is about.
    """
    left = [e for e in named if not e.is_served]
    if not left:
        return None
    now = _bytes(request_tree(player, request))
    ids = volatile_ids(now)
    if not ids and not moments(now):
        return pick(left, lambda _e: True)
    then = {e.seq: _bytes(recorded_request(player, e)) for e in left}
    exact = pick(left, lambda e: (volatile_ids(then[e.seq]), moments(then[e.seq])) == (ids, moments(now)))
    return exact or pick(
        left, lambda e: player.ids.may_be(volatile_ids(then[e.seq]), ids, moments(then[e.seq]), moments(now))
    )


def _bytes(tree: Any) -> bytes:
    """Return a tree as bytes to look for ids in."""
    return json.dumps(tree, default=str).encode("utf-8", "replace")


def request_tree(player: TapePlayer, request: Request) -> dict[str, Any]:
    """Return what a model is asked, as a tree."""
    messages = [{k: m.get(k) for k in MESSAGE_KEYS if m.get(k) is not None} for m in request.messages]
    tree: dict[str, Any] = player.encoded({"model": request.model, "messages": messages})
    return tree


def recorded_request(player: TapePlayer, exchange: Exchange) -> dict[str, Any]:
    """Return what a model was asked, as a tree."""
    source = exchange.started or exchange.fields
    messages = player.tape.value(source.get("messages"))
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    known = messages if isinstance(messages, list) else []
    shown = [{k: m[k] for k in MESSAGE_KEYS if m.get(k) is not None} for m in known if isinstance(m, dict)]
    return {"model": source.get("model", exchange.fields.get("model")), "messages": shown}


def _asks(player: TapePlayer, exchange: Exchange, request: Request) -> bool:
    """Whether a call whose process died before it stored its exchange asked the same: roles and texts are compared."""
    old, new = recorded_request(player, exchange), request_tree(player, request)
    return old["model"] == new["model"] and calm(_texts(old)) == calm(_texts(new))


def _texts(request: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Return role and text of every message; CrewAI's events flatten what lies deeper."""
    return [(m.get("role"), m.get("content") or None) for m in request["messages"]]


def response_of(player: TapePlayer, exchange: Exchange, model: Any) -> Any:
    """Return the recorded response as the model class returned it.

    Raises:
        UnrevivableError: it cannot be made again.
    """
    box = exchange.fields.get("response")
    tree = box.get("value") if isinstance(box, dict) else (exchange.completed or {}).get("response")
    if isinstance(model, type):
        player.classes.setdefault(class_name(model), model)
    value = player.revived(tree, lenient=True)
    if isinstance(model, type) and issubclass(model, BaseModel) and isinstance(value, dict):
        try:
            return model.model_validate(value)
        except ValidationError as error:  # the class was edited since
            raise UnrevivableError(f"it is no {model.__name__}: {error}") from error
    return value


def usage_of(exchange: Exchange) -> dict[str, Any]:
    """Return the tokens of a recorded call."""
    usage = (exchange.completed or {}).get("usage") or exchange.fields.get("usage")
    return usage if isinstance(usage, dict) else {}


def tell(llm: Any, player: TapePlayer, exchange: Exchange, response: Any, given: dict[str, Any]) -> None:
    """Emit what the model emitted and count its tokens: listeners and sums see the call as it was."""
    whom = {"from_task": given.get("from_task"), "from_agent": given.get("from_agent")}
    with within(in_boundary, value=True), within(serving, value=True), llm_call_context():
        try:
            _emit_call(llm, player, exchange, response, given, whom)
        except Exception as error:  # a listener's or a class's own trouble must not change the answer
            log.warning("not_told", where=exchange.lane, error=repr(error))
        count_tokens(llm, usage_of(exchange))


def _emit_call(
    llm: Any, player: TapePlayer, exchange: Exchange, response: Any, given: dict[str, Any], whom: dict[str, Any]
) -> None:
    """Emit start, pieces and end; a model that emitted nothing emits nothing."""
    completed = exchange.completed
    if completed is None:
        return
    _emit_started(llm, given, whom)
    for kind, chunk in exchange.chunks:
        _emit_chunk(llm, kind, revive(player.tape.value(chunk), {}, lenient=True), whom)
    facts = {k: completed.get(k) for k in ("finish_reason", "response_id") if completed.get(k)}
    told = player.tape.value(completed.get("response"))
    response = told if isinstance(told, str) else response  # providers tell an instance as its text
    llm._emit_call_completed_event(  # noqa: SLF001 - what every model of CrewAI's calls itself
        response=response, call_type=LLMCallType(completed.get("call_type") or "llm_call"),
        messages=_sent(player, completed, given), usage=completed.get("usage"), **whom, **facts,
    )  # fmt: skip


def _sent(player: TapePlayer, completed: dict[str, Any], given: dict[str, Any]) -> Any:
    """Return the messages as the model's end event named them: providers tell what went over the wire.

    What lies deep in them CrewAI made texts of, and would once more: that is taken from what is given.
    """
    now, then = given.get("messages"), player.tape.value(completed.get("messages"))
    if not isinstance(now, list) or not isinstance(then, list) or len(now) != len(then):
        return now
    return [_as_sent(*pair) for pair in zip(now, then, strict=True)]


def _as_sent(now: Any, then: Any) -> Any:
    """Return a message with the keys it was sent with; only texts may have been changed on the way."""
    if not isinstance(now, dict) or not isinstance(then, dict):
        return now
    return {key: now.get(key, value) if isinstance(value, (dict, list)) else value for key, value in then.items()}


def count_tokens(llm: Any, usage: dict[str, Any]) -> None:
    """Add a recorded call's tokens to a model's sums."""
    if usage:
        llm._track_token_usage_internal(usage)  # noqa: SLF001 - the one place where CrewAI counts


def _emit_started(llm: Any, given: dict[str, Any], whom: dict[str, Any]) -> None:
    """Say that the model is asked."""
    llm._emit_call_started_event(  # noqa: SLF001
        messages=given.get("messages"), tools=given.get("tools"), callbacks=given.get("callbacks"),
        available_functions=given.get("available_functions"), **whom,
    )  # fmt: skip


def _emit_chunk(llm: Any, kind: str, chunk: dict[str, Any], whom: dict[str, Any]) -> None:
    """Say a piece of the answer."""
    if kind == "llm_thinking_chunk":
        llm._emit_thinking_chunk_event(chunk=chunk.get("chunk", ""), response_id=chunk.get("response_id"), **whom)  # noqa: SLF001
        return
    call = chunk.get("tool_call")
    llm._emit_stream_chunk_event(  # noqa: SLF001
        chunk=chunk.get("chunk", ""), response_id=chunk.get("response_id"), call_type=chunk.get("call_type"),
        tool_call=call if isinstance(call, dict) else None, **whom,
    )  # fmt: skip


def _fail(player: TapePlayer, exchange: Exchange, llm: Any, given: dict[str, Any]) -> Any:
    """Raise what the recorded call raised: something good came after it."""
    error = revive_error(player.tape.value(exchange.fields.get("error")))
    whom = {"from_task": given.get("from_task"), "from_agent": given.get("from_agent")}
    with within(in_boundary, value=True), within(serving, value=True), llm_call_context():
        if exchange.fields.get("failed"):
            _emit_started(llm, given, whom)
            llm._emit_call_failed_event(error=str(error), **whom)  # noqa: SLF001
    raise error
