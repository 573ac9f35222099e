"""The fold of features: what was to be delivered, and who verified which test step when. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from eventlog.ledger import events as ev
from eventlog.record import StoredEvent

Verdict = Literal["passed", "failed", "untested"]
"""What is known of one test step."""
COMPLETED = "completed"


class TestStep(msgspec.Struct, kw_only=True):
    """One thing that must hold before a feature is delivered."""

    __test__ = False  # its name is no test's, whatever pytest thinks

    step: str
    status: Verdict = "untested"
    by: str | None = None
    """Who tried it last."""
    at_ns: int | None = None
    reason: str | None = None


class Change(msgspec.Struct, kw_only=True, frozen=True):
    """Something that was said about a feature."""

    seq: int
    at_ns: int
    what: str
    """``defined``, ``redefined``, ``passed``, ``failed``, ``completed``, ``updated``; or ``refused``: it said completed
    while a test step had not passed."""
    step: str | None = None
    by: str | None = None
    reason: str | None = None
    status: str = ""
    """Of the feature since."""


class FeatureInfo(msgspec.Struct, kw_only=True):
    """Something to be delivered, at a cursor."""

    name: str
    description: str = ""
    category: str | None = None
    namespace: str | None = None
    test_steps: list[TestStep] = []
    status: str = "not_started"
    """``not_started``, ``in_progress``, ``failed`` or ``completed``; or what ``update`` said."""
    completed_by: str | None = None
    completed_at_ns: int | None = None
    forced: str | None = None
    """Why it is completed though a test step had not passed."""
    implemented_by: str | None = None
    created_at_ns: int | None = None
    updated_at_ns: int | None = None
    history: list[Change] = []

    @property
    def missing(self) -> list[str]:
        """The test steps that have not passed, in order."""
        return [step.step for step in self.test_steps if step.status != "passed"]

    def step(self, name: str) -> TestStep | None:
        """Return a test step; ``None`` when there is none of that name."""
        return next((step for step in self.test_steps if step.step == name), None)


class FeatureStates(msgspec.Struct, kw_only=True):
    """The state of the fold."""

    cursor: int = 0
    features: dict[str, FeatureInfo] = {}
    """In the order of their definition."""
    defined_seq: dict[str, int] = {}
    """Where each was defined last."""


FEATURE_TYPES = ev.types_of(*ev.FEATURE_EVENTS)
_KINDS = {kind.event_type: kind for kind in ev.FEATURE_EVENTS}


def apply(state: FeatureStates, event: StoredEvent) -> None:
    """Fold one event; one that says nothing, or speaks of a feature that nobody defined, is only counted."""
    kind = _KINDS.get(event.type)
    told: Any = ev.read_event(event.payload, kind) if kind is not None else None
    state.cursor = event.seq
    if isinstance(told, ev.FeatureDefined):
        _defined(state, told, event)
    elif told is not None and (found := state.features.get(told.feature)) is not None:
        _RULES[type(told)](found, told, event)
        found.updated_at_ns = event.at_ns


def chosen(state: FeatureStates, status: str | None = None, category: str | None = None) -> list[FeatureInfo]:
    """Return the features of a status and a category (``None``: of any), in the order of their definition."""
    return [
        copy_of(info)
        for info in state.features.values()
        if status in (None, info.status) and category in (None, info.category)
    ]


def copy_of(info: FeatureInfo) -> FeatureInfo:
    """Return a feature as it stands: later events do not change the copy."""
    steps = [msgspec.structs.replace(step) for step in info.test_steps]
    return msgspec.structs.replace(info, test_steps=steps, history=list(info.history))


def _defined(state: FeatureStates, told: ev.FeatureDefined, event: StoredEvent) -> None:
    known = state.features.get(told.feature)
    if known is not None and is_defined_as(known, told):
        return
    state.defined_seq[told.feature] = event.seq
    if known is None:
        known = state.features[told.feature] = FeatureInfo(name=told.feature, created_at_ns=event.at_ns)
    is_new = not known.history
    _take_steps(known, told.test_steps)
    known.description, known.category, known.namespace = told.description, told.category, told.namespace
    known.updated_at_ns = event.at_ns
    _note(known, event, "defined" if is_new else "redefined")


def is_defined_as(info: FeatureInfo, told: ev.FeatureDefined) -> bool:
    """Whether a definition says what is known already."""
    steps = [step.step for step in info.test_steps]
    return (info.description, info.category, info.namespace, steps) == (
        told.description, told.category, told.namespace, list(dict.fromkeys(told.test_steps)),
    )  # fmt: skip


def _take_steps(info: FeatureInfo, names: list[str]) -> None:
    """Keep the verdicts of steps that are still there; whoever completed it did not know the new ones."""
    known = {step.step: step for step in info.test_steps}
    info.test_steps = [known.get(name) or TestStep(step=name) for name in dict.fromkeys(names)]
    has_new, has_lost = bool(set(names) - known.keys()), bool(known.keys() - set(names))
    if has_new or (has_lost and info.status != COMPLETED):
        _reopen(info)


def _verified(info: FeatureInfo, told: ev.FeatureVerified, event: StoredEvent) -> None:
    step = info.step(told.step)
    if step is not None:
        step.status = "passed" if told.passed else "failed"
        step.by, step.at_ns, step.reason = told.by, event.at_ns, told.reason
        if not told.passed or info.status != COMPLETED:
            _reopen(info)
    what = "passed" if told.passed else "failed"
    _note(info, event, what, step=told.step, by=told.by, reason=told.reason)


def _completed(info: FeatureInfo, told: ev.FeatureCompleted, event: StoredEvent) -> None:
    what = "completed" if _complete(info, told.by, told.forced, event.at_ns) else "refused"
    _note(info, event, what, by=told.by, reason=told.forced)


def _updated(info: FeatureInfo, told: ev.FeatureUpdated, event: StoredEvent) -> None:
    info.implemented_by = told.implemented_by if told.implemented_by is not None else info.implemented_by
    what = "updated"
    if told.status == COMPLETED:
        what = what if _complete(info, told.by, None, event.at_ns) else "refused"
    elif told.status is not None:
        _reopen(info)
        info.status = told.status
    _note(info, event, what, by=told.by or told.implemented_by, reason=told.reason)


def _complete(info: FeatureInfo, by: str | None, forced: str | None, at_ns: int) -> bool:
    """Take a feature for delivered, unless a test step has not passed and nobody says why that does not matter."""
    missing = bool(info.missing)
    if missing and not forced:
        return False
    info.status, info.completed_by, info.completed_at_ns = COMPLETED, by, at_ns
    info.forced = forced if missing else None
    return True


def _reopen(info: FeatureInfo) -> None:
    """Take a feature for undelivered: its test steps alone tell where it stands."""
    info.completed_by = info.completed_at_ns = info.forced = None
    verdicts = {step.status for step in info.test_steps}
    begun = "in_progress" if "passed" in verdicts else "not_started"
    info.status = "failed" if "failed" in verdicts else begun


def _note(info: FeatureInfo, event: StoredEvent, what: str, **facts: str | None) -> None:
    """Keep what was said."""
    info.history.append(Change(seq=event.seq, at_ns=event.at_ns, what=what, status=info.status, **facts))


_RULES: dict[type[ev.WorkEvent], Callable[[FeatureInfo, Any, StoredEvent], None]] = {
    ev.FeatureVerified: _verified,
    ev.FeatureCompleted: _completed,
    ev.FeatureUpdated: _updated,
}
