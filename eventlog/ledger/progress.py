"""The fold of a session: from the events of the ledger to how far each step is. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from eventlog.ledger import events as ev
from eventlog.ledger.session import Note
from eventlog.record import StoredEvent


class Claim(msgspec.Struct, frozen=True):
    """The right of one worker to work on an item."""

    id: str
    owner: str
    """As ``owner.read_owner`` reads it; empty for one that nobody holds."""
    until_ns: int | None
    branch: str = "main"
    """Where it was made."""


class Step(msgspec.Struct, kw_only=True):
    """What is known of one item."""

    name: str
    stage: str = "pending"
    """``pending``, ``begun``, ``completed`` or ``failed``."""
    claim: Claim | None = None
    attempts: int = 0
    round: int = 0
    started_at_ns: int | None = None
    completed_at_ns: int | None = None
    completed_seq: int = 0
    completions: int = 0
    """How often it was completed."""
    result: Any = None
    """The stored tree, or ``None``: completed without one."""
    result_hash: str = ""
    unkept: str | None = None
    """Why the result will not come back."""
    inputs_hash: str = ""
    upstream: dict[str, str] = {}
    is_invalid: bool = False
    error: Any = None
    reason: str | None = None
    blocked: str | None = None
    """Why nobody is to begin it."""
    branch: str = ""
    placed_on: str = ""
    """The branch of the session on which ``branch`` was chosen."""

    def begin_round(self) -> None:
        """Forget what the kickoffs so far were asked and answered."""
        self.round += 1
        self.branch = self.placed_on = ""


class Progress(msgspec.Struct, kw_only=True):
    """The state of the fold."""

    cursor: int = 0
    steps: dict[str, Step] = {}
    order: list[str] = []
    """What is to be done, as it was said last."""
    plan: dict[str, list[str]] = {}
    """Item → those that come before it, as it was said last."""
    summary: str | None = None
    status: str | None = None
    """What was said, until a step goes on."""
    last_action: str | None = None
    total_items: int | None = None
    notes: list[Note] = []
    run_count: int = 0
    agent: str | None = None
    created_at_ns: int | None = None
    updated_at_ns: int | None = None

    def step(self, name: str) -> Step:
        """Return a step; it is pending when nobody has heard of it."""
        found = self.steps.get(name)
        if found is None:
            found = self.steps[name] = Step(name=name)
        return found


SESSION_TYPES = ev.types_of(*ev.SESSION_EVENTS)
_KINDS = {kind.event_type: kind for kind in ev.SESSION_EVENTS}


def apply(state: Progress, event: StoredEvent) -> None:
    """Fold one event; one that says nothing is only counted."""
    kind = _KINDS.get(event.type)
    told = ev.read_event(event.payload, kind) if kind is not None else None
    state.cursor = event.seq
    if told is None:
        return
    state.created_at_ns = state.created_at_ns or event.at_ns
    if type(told) is not ev.StepRenewed:
        state.updated_at_ns = event.at_ns
    _RULES[type(told)](state, told, event)


def _opened(state: Progress, told: ev.SessionOpened, _event: StoredEvent) -> None:
    state.run_count += 1
    state.agent = told.agent or state.agent
    if told.items is not None:
        state.order = list(dict.fromkeys(told.items))
        state.plan = told.depends_on or {}
        for name in state.order:
            state.step(name)


def _updated(state: Progress, told: ev.SessionUpdated, event: StoredEvent) -> None:
    state.summary = told.summary if told.summary is not None else state.summary
    state.last_action = told.last_action if told.last_action is not None else state.last_action
    if told.completed_items is not None:
        _complete_exactly(state, told.completed_items, event.at_ns)
    if told.in_progress_item is not None:
        _begin_only(state, told.in_progress_item, event.at_ns)
    if told.next_items is not None:
        _plan(state, told.next_items)
    if told.blocked_items is not None:
        for step in state.steps.values():
            step.blocked = None
        for name, reason in told.blocked_items.items():
            state.step(name).blocked = reason
    state.total_items = told.total_items if told.total_items is not None else state.total_items
    state.status = told.status if told.status is not None else state.status


def _complete_exactly(state: Progress, names: list[str], at_ns: int) -> None:
    """Take these items for completed, and no others."""
    for name in names:
        step = state.step(name)
        if step.stage != "completed":
            step.stage, step.claim, step.completed_at_ns = "completed", None, at_ns
            step.completions += 1
    for step in state.steps.values():
        if step.name not in names and step.stage == "completed":
            step.stage = "pending"
            step.begin_round()


def _begin_only(state: Progress, name: str, at_ns: int) -> None:
    """Take an item for the only one in progress, of those that no worker has claimed."""
    for step in state.steps.values():
        if step.name != name:
            _reopen(step)
    step = state.step(name)
    if step.stage != "completed" and step.claim is None:
        step.stage, step.started_at_ns, step.claim = "begun", at_ns, Claim("", "", None)


def _plan(state: Progress, names: list[str]) -> None:
    """Take these items for what comes next, in that order; others are dropped, if nobody ever began them."""
    for name in names:
        _reopen(state.step(name))
    state.steps = {name: step for name, step in state.steps.items() if name in names or _is_known(step)}
    others = [name for name in (*state.order, *state.steps) if name in state.steps and name not in names]
    state.order = list(dict.fromkeys((*others, *names)))


def _is_known(step: Step) -> bool:
    """Whether more is known of an item than that it was to be done."""
    return (
        step.stage != "pending" or step.started_at_ns is not None or step.claim is not None or step.blocked is not None
    )


def _reopen(step: Step) -> None:
    """Take an item for one that nobody has begun, unless a worker has."""
    if step.claim is not None and not step.claim.id:
        step.claim = None
        step.stage = "pending" if step.stage == "begun" else step.stage


def _noted(state: Progress, told: ev.SessionNoted, event: StoredEvent) -> None:
    state.notes.append(Note(seq=event.seq, at_ns=event.at_ns, text=told.text))


def _claimed(state: Progress, told: ev.StepClaimed, event: StoredEvent) -> bool:
    """The first one has it; whether that is this one."""
    step = state.step(told.item)
    if step.claim is not None and step.claim.id and step.claim.id not in (told.claim, told.supersedes):
        return False
    if step.completions != told.after:
        return False
    owner = msgspec.json.encode(told.owner).decode() if told.owner else ""
    step.claim = Claim(told.claim or "", owner, told.until_ns, event.branch)
    state.status = None
    return True


def _started(state: Progress, told: ev.StepStarted, event: StoredEvent) -> None:
    if not _claimed(state, told, event):
        return
    step = state.step(told.item)
    if step.stage == "completed" or (step.attempts and step.inputs_hash != told.inputs_hash):
        step.begin_round()
    step.attempts += 1
    step.stage, step.started_at_ns = "begun", event.at_ns
    step.inputs_hash, step.upstream = told.inputs_hash, told.upstream


def _renewed(state: Progress, told: ev.StepRenewed, _event: StoredEvent) -> None:
    step = state.step(told.item)
    if step.claim is not None and step.claim.id == told.claim:
        step.claim = msgspec.structs.replace(step.claim, until_ns=told.until_ns)


def _moved(state: Progress, told: ev.StepMoved, event: StoredEvent) -> None:
    step = state.step(told.item)
    if _may_speak(step, told.claim):
        step.branch, step.placed_on = told.branch, event.branch


def _completed(state: Progress, told: ev.StepCompleted, event: StoredEvent) -> None:
    step = state.step(told.item)
    if not _may_speak(step, told.claim):
        return
    step.stage, step.claim, step.completed_at_ns = "completed", None, event.at_ns
    step.completed_seq = event.seq
    step.completions += 1
    step.result, step.result_hash, step.unkept = told.result, told.result_hash, told.unkept
    step.is_invalid, step.error, step.reason = False, None, None
    state.status = None


def _kept(state: Progress, told: ev.StepKept, _event: StoredEvent) -> None:
    step = state.step(told.item)
    step.inputs_hash, step.upstream = told.inputs_hash, told.upstream
    step.is_invalid, step.reason = False, None


def _failed(state: Progress, told: ev.StepFailed, _event: StoredEvent) -> None:
    step = state.step(told.item)
    if not _may_speak(step, told.claim):
        return
    step.stage, step.claim, step.error = "failed", None, told.error
    if told.anew:
        step.begin_round()
    state.status = None


def _released(state: Progress, told: ev.StepReleased, _event: StoredEvent) -> None:
    step = state.step(told.item)
    if _may_speak(step, told.claim):
        step.claim = None


def _invalidated(state: Progress, told: ev.StepInvalidated, _event: StoredEvent) -> None:
    step = state.step(told.item)
    step.is_invalid = step.stage == "completed"
    step.stage = step.stage if step.is_invalid else "pending"
    step.claim, step.reason = None, told.reason
    step.begin_round()
    state.status = None


def _blocked(state: Progress, told: ev.StepBlocked, _event: StoredEvent) -> None:
    state.step(told.item).blocked = told.reason
    state.status = None


def _unblocked(state: Progress, told: ev.StepUnblocked, _event: StoredEvent) -> None:
    state.step(told.item).blocked = None
    state.status = None


def _may_speak(step: Step, claim: str | None) -> bool:
    """Whether what a worker says counts: it has the item, or it speaks without a claim, as people do."""
    return claim is None or (step.claim is not None and step.claim.id == claim)


_RULES: dict[type[ev.WorkEvent], Callable[[Progress, Any, StoredEvent], Any]] = {
    ev.SessionOpened: _opened,
    ev.SessionUpdated: _updated,
    ev.SessionNoted: _noted,
    ev.StepClaimed: _claimed,
    ev.StepStarted: _started,
    ev.StepRenewed: _renewed,
    ev.StepMoved: _moved,
    ev.StepCompleted: _completed,
    ev.StepKept: _kept,
    ev.StepFailed: _failed,
    ev.StepReleased: _released,
    ev.StepInvalidated: _invalidated,
    ev.StepBlocked: _blocked,
    ev.StepUnblocked: _unblocked,
}


# -- what follows from it -----------------------------------------------------------------------


def is_stale(state: Progress, step: Step, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a completed step is to be done again: it was invalidated, or what it depends on has changed or will."""
    if step.is_invalid:
        return True
    return any(is_changed(state, name, used, seen | {step.name}) for name, used in step.upstream.items())


def is_changed(state: Progress, name: str, used: str, seen: frozenset[str] = frozenset()) -> bool:
    """Whether the result of a step is another one than the one with hash ``used``, or is about to be."""
    dep = state.steps.get(name)
    if dep is None or dep.stage != "completed" or dep.result_hash != used:
        return True
    return name not in seen and is_stale(state, dep, seen)


def is_ready(state: Progress, name: str) -> bool:
    """Whether everything that comes before an item is done."""
    before = [state.steps.get(dep) for dep in state.plan.get(name, ())]
    return all(dep is not None and dep.stage == "completed" and not is_stale(state, dep) for dep in before)
