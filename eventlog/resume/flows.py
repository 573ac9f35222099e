"""Flows: finished methods return what they returned and do to the state what they did to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crewai.flow.async_feedback import HumanFeedbackPending
from crewai.types.usage_metrics import UsageMetrics
from pydantic import BaseModel, ValidationError

from eventlog.capture.attributes import sets_attributes
from eventlog.capture.playing import MISSING, Served
from eventlog.logger import Logger
from eventlog.replay.path import above
from eventlog.resume.definitions import method_name
from eventlog.resume.exchanges import Answer, Finished
from eventlog.resume.models import usage_of
from eventlog.resume.revive import UnrevivableError
from eventlog.resume.usage import account

if TYPE_CHECKING:
    from eventlog.resume.player import TapePlayer

log = Logger(__name__)
GONE = object()
"""Stands for a field that a method took out of the state."""


def result(player: TapePlayer, lane: str, flow: Any) -> Any:
    """Return the result of a finished method, its changes of the state made; ``MISSING`` when it has to run."""
    keep_identity(player, above(lane), flow)
    finished = player.tape.methods.get(lane)
    cls: Any = type(flow)
    if finished is None or not _holds(player, finished) or sets_attributes(cls, method_name(lane)):
        return MISSING
    try:
        value = _returned(player, lane, finished)
        changes = _changes(player, finished, flow)
    except (UnrevivableError, ValidationError) as error:
        log.info("method_runs_again", method=lane, reason=str(error))
        return MISSING
    _apply(flow, changes)
    _count(player, lane, flow)
    return value


def _holds(player: TapePlayer, finished: Finished) -> bool:
    """Whether nothing that the method may have used was edited, and its code is the same."""
    if finished.seq < player.edits.last_below(finished.path):
        return False
    first = player.first_rerun(above(finished.path))
    return first is None or finished.seq < first


def _returned(player: TapePlayer, lane: str, finished: Finished) -> Any:
    """Return what the method itself returned: where a person reviewed it, what that person was shown.

    Raises:
        UnrevivableError: it cannot be made again.
    """
    reviewed = [e for e in player.tape.human.get(lane, ()) if e.fields.get("kind") == "human_feedback"]
    if reviewed:
        box = reviewed[-1].fields.get("output")
        return player.revived(box.get("value") if isinstance(box, dict) else None)
    return player.revived(finished.ended.get("result"))


def _changes(player: TapePlayer, finished: Finished, flow: Any) -> dict[str, Any]:
    """Return what the method did to the state: field → new value, or ``GONE``.

    Raises:
        UnrevivableError, ValidationError: a value cannot be made again.
    """
    before = _fields(player.tape.value(finished.started.get("state")))
    after = _fields(player.tape.value(finished.ended.get("state")))
    changed = {k: v for k, v in after.items() if k != "id" and (k not in before or before[k] != v)}
    gone = dict.fromkeys((k for k in before if k not in after), GONE)
    values = {k: player.revived(v) for k, v in changed.items()}
    state = flow.state
    if isinstance(state, BaseModel) and values:
        made = type(state).model_validate({**state.model_dump(), **values})
        values = {k: getattr(made, k) for k in values}
    return {**values, **gone}


def _apply(flow: Any, changes: dict[str, Any]) -> None:
    """Change the live state."""
    state = flow.state
    for name, value in changes.items():
        if isinstance(state, dict):
            state.pop(name, None) if value is GONE else state.__setitem__(name, value)
        elif value is not GONE:
            setattr(state, name, value)


def restore_state(player: TapePlayer, flow: Any, tree: Any) -> None:
    """Make the live state what was recorded, as far as it can be made again."""
    fields = _fields(player.tape.value(tree))
    finished = Finished(0, "", {"state": {}}, {"state": fields})
    try:
        _apply(flow, _changes(player, finished, flow))
        _set_id(flow, fields.get("id"))
    except (UnrevivableError, ValidationError) as error:
        log.warning("state_not_restored", flow=player.tape.path, reason=str(error))


def keep_identity(player: TapePlayer, path: str, flow: Any) -> None:
    """Give a flow the id it had: it is in prompts, and the key of its persistence."""
    if path in player.identified:
        return
    player.identified.add(path)
    first = player.tape.first_method(path)
    if first is not None:
        _set_id(flow, _fields(player.tape.value(first.get("state"))).get("id"))


def begin_again(player: TapePlayer, flow: Any) -> None:
    """Give a flow that begins again the state it began with: this object may have run before."""
    first = player.tape.first_method(player.tape.path)
    if first is None:
        return
    player.identified.add(player.tape.path)
    fields = _fields(player.tape.value(first.get("state")))
    if isinstance(flow.state, dict):
        for name in [n for n in flow.state if n not in fields]:
            flow.state.pop(name)
    restore_state(player, flow, fields)


def _set_id(flow: Any, identity: Any) -> None:
    """Set the id of a flow's state."""
    state = flow.state
    if not isinstance(identity, str):
        return
    if isinstance(state, dict):
        state["id"] = identity
    elif hasattr(state, "id"):
        state.id = identity


def _count(player: TapePlayer, lane: str, flow: Any) -> None:
    """Count what the method cost, also in the flow's own sum."""
    total = getattr(flow, "_aggregated_usage_metrics", None)
    for exchange in account(player, lane, flow):
        metrics = UsageMetrics.from_provider_dict(usage_of(exchange))
        if total is not None and metrics is not None and exchange.completed is not None:
            total.add_usage_metrics(metrics)
    with player.lock:
        player.tally.methods_kept += 1


def feedback(player: TapePlayer, lane: str, given: dict[str, Any]) -> Served | None:
    """Return the feedback a paused flow was waiting for, or let it go on waiting without asking anybody again."""
    text = player.feedback
    if text is not None:
        player.feedback = None
        player.tape.paused.discard(lane)
        player.record_feedback(given, text)
        return Answer(lambda: text)

    def wait() -> Any:
        raise HumanFeedbackPending(context=given["context"])

    return Answer(wait) if given.get("context") is not None else None


def _fields(state: Any) -> dict[str, Any]:
    """Return the fields of a recorded state."""
    fields = state.get("fields", state) if isinstance(state, dict) and "$model" in state else state
    return fields if isinstance(fields, dict) else {}
