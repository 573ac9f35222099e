"""What the events of the ledger say: one struct per type, for whoever appends and for whoever folds. Pure.

A field that is ``None`` is not stored. Names of items, features and agents are the user's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import msgspec

from eventlog.nesting import nests_too_deep
from eventlog.record import StoredEvent
from eventlog.values import plain, resolve


class WorkEvent(msgspec.Struct, kw_only=True, frozen=True):
    """Base of all of them."""

    event_type: ClassVar[str]


# -- sessions ---------------------------------------------------------------------------------------


class SessionOpened(WorkEvent, frozen=True):
    """Somebody begins, or goes on."""

    event_type: ClassVar[str] = "eventlog.session_opened"
    items: list[str] | None = None
    """All that is to be done, in order."""
    depends_on: dict[str, list[str]] | None = None
    """Item → those that come before it."""
    agent: str | None = None


class SessionUpdated(WorkEvent, frozen=True):
    """What somebody says about the whole; the lists replace what was known."""

    event_type: ClassVar[str] = "eventlog.session_updated"
    summary: str | None = None
    status: str | None = None
    last_action: str | None = None
    completed_items: list[str] | None = None
    in_progress_item: str | None = None
    next_items: list[str] | None = None
    blocked_items: dict[str, str] | None = None
    """Item → reason."""
    total_items: int | None = None


class SessionNoted(WorkEvent, frozen=True):
    """Something to remember."""

    event_type: ClassVar[str] = "eventlog.session_noted"
    text: str


# -- steps ------------------------------------------------------------------------------------------


class StepClaimed(WorkEvent, frozen=True):
    """A worker wants an item for itself.

    It has it if nobody else has, or if it names whom it supersedes; and if nobody completed it unknown to the worker.
    """

    event_type: ClassVar[str] = "eventlog.step_claimed"
    item: str
    claim: str | None = None
    owner: Any = None
    """The process: host, boot, pid, started."""
    until_ns: int | None = None
    """Without a renewal another host takes the worker for dead after that."""
    supersedes: str | None = None
    """The claim of a worker that is gone."""
    after: int = 0
    """How often the item was completed, as far as the worker knows."""


class StepStarted(StepClaimed, frozen=True):
    """An attempt begins; it is a claim as well."""

    event_type: ClassVar[str] = "eventlog.step_started"
    inputs_hash: str = ""
    upstream: dict[str, str] = {}
    """Item it depends on → hash of that one's result."""


class StepRenewed(WorkEvent, frozen=True):
    """A worker is still there."""

    event_type: ClassVar[str] = "eventlog.step_renewed"
    item: str
    claim: str
    until_ns: int


class StepMoved(WorkEvent, frozen=True):
    """The kickoffs of a step are recorded on another branch than the session: another worker has that."""

    event_type: ClassVar[str] = "eventlog.step_moved"
    item: str
    claim: str
    branch: str


class StepCompleted(WorkEvent, frozen=True):
    """A step is done."""

    event_type: ClassVar[str] = "eventlog.step_completed"
    item: str
    claim: str | None = None
    """None: somebody says so, whoever has it."""
    result: Any = None
    """``{"value": …}``."""
    result_hash: str = ""
    unkept: str | None = None
    """Why the result will not come back."""


class StepKept(WorkEvent, frozen=True):
    """A completed step counts for other inputs, too: somebody wants it so."""

    event_type: ClassVar[str] = "eventlog.step_kept"
    item: str
    inputs_hash: str = ""
    upstream: dict[str, str] = {}


class StepFailed(WorkEvent, frozen=True):
    """An attempt raised."""

    event_type: ClassVar[str] = "eventlog.step_failed"
    item: str
    claim: str | None = None
    error: Any = None
    anew: bool = False
    """It refused what its kickoffs had returned: the next attempt asks again."""


class StepReleased(WorkEvent, frozen=True):
    """A worker gives an item back."""

    event_type: ClassVar[str] = "eventlog.step_released"
    item: str
    claim: str | None = None


class StepInvalidated(WorkEvent, frozen=True):
    """What is known of a step does not count any more."""

    event_type: ClassVar[str] = "eventlog.step_invalidated"
    item: str
    reason: str | None = None


class StepBlocked(WorkEvent, frozen=True):
    """Nobody is to begin an item."""

    event_type: ClassVar[str] = "eventlog.step_blocked"
    item: str
    reason: str


class StepUnblocked(WorkEvent, frozen=True):
    """An item may be begun again."""

    event_type: ClassVar[str] = "eventlog.step_unblocked"
    item: str


# -- features ---------------------------------------------------------------------------------------


class FeatureDefined(WorkEvent, frozen=True):
    """What is to be delivered."""

    event_type: ClassVar[str] = "eventlog.feature_defined"
    feature: str
    description: str = ""
    category: str | None = None
    test_steps: list[str] = []
    namespace: str | None = None


class FeatureUpdated(WorkEvent, frozen=True):
    """What somebody says about a feature."""

    event_type: ClassVar[str] = "eventlog.feature_updated"
    feature: str
    status: str | None = None
    by: str | None = None
    reason: str | None = None
    implemented_by: str | None = None


class FeatureVerified(WorkEvent, frozen=True):
    """Somebody tried one test step."""

    event_type: ClassVar[str] = "eventlog.feature_verified"
    feature: str
    step: str
    passed: bool
    by: str | None = None
    reason: str | None = None


class FeatureCompleted(WorkEvent, frozen=True):
    """A feature is delivered."""

    event_type: ClassVar[str] = "eventlog.feature_completed"
    feature: str
    by: str | None = None
    forced: str | None = None
    """Why, though a test step had not passed."""


# -- memory -----------------------------------------------------------------------------------------


class MemorySaved(WorkEvent, frozen=True):
    """Something was found."""

    event_type: ClassVar[str] = "eventlog.memory_saved"
    memory: str
    """Id."""
    namespace: str
    value: Any
    scope: str
    agent: str | None = None
    metadata: dict[str, Any] = {}
    origin: str | None = None
    """Mark of the step that saved it."""
    vector: str | None = None
    """Its embedding: 32-bit floats, little-endian, base64."""
    embedder: str | None = None
    """Which embedder made the vector."""


class MemoryCorrected(WorkEvent, frozen=True):
    """Something turned out to be otherwise; what is not given stays."""

    event_type: ClassVar[str] = "eventlog.memory_corrected"
    memory: str
    namespace: str | None = None
    """Where the memory is: an id names one of a namespace."""
    value: Any = None
    metadata: dict[str, Any] | None = None
    by: str | None = None
    vector: str | None = None
    embedder: str | None = None


class MemoryDeleted(WorkEvent, frozen=True):
    """Something is not to be found any more."""

    event_type: ClassVar[str] = "eventlog.memory_deleted"
    memory: str
    namespace: str | None = None
    reason: str | None = None
    by: str | None = None


W = TypeVar("W", bound=WorkEvent)


def fields_of(event: WorkEvent) -> dict[str, Any]:
    """Return what is stored of an event."""
    return {name: value for name in event.__struct_fields__ if (value := getattr(event, name)) is not None}


def read_event(payload: bytes, kind: type[W]) -> W | None:
    """Return an event from its stored payload; ``None`` for one that says no such thing (any more)."""
    if nests_too_deep(payload):
        return None
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def with_texts(event: StoredEvent, lookup: Callable[[str], Any]) -> StoredEvent:
    """Return a stored event with its long texts in place; a result or a value stays as it is stored.

    ``lookup`` returns what a content holds, as for ``eventlog.values.resolve``.
    """
    texts = _TEXTS.get(event.type)
    if texts is None or b'{"$' not in event.payload or nests_too_deep(event.payload):
        return event
    try:
        told = msgspec.json.decode(event.payload, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return event
    whole = {name: plain(resolve(told[name], lookup)) for name in texts & told.keys()}
    return msgspec.structs.replace(event, payload=msgspec.json.encode({**told, **whole}))


def types_of(*kinds: type[WorkEvent]) -> tuple[str, ...]:
    """Return the names of event types."""
    return tuple(kind.event_type for kind in kinds)


SESSION_EVENTS = (
    SessionOpened, SessionUpdated, SessionNoted, StepClaimed, StepStarted, StepRenewed, StepMoved, StepCompleted,
    StepKept, StepFailed, StepReleased, StepInvalidated, StepBlocked, StepUnblocked,
)  # fmt: skip
FEATURE_EVENTS = (FeatureDefined, FeatureUpdated, FeatureVerified, FeatureCompleted)
MEMORY_EVENTS = (MemorySaved, MemoryCorrected, MemoryDeleted)
_TEXTS = {
    kind.event_type: frozenset(field.name for field in msgspec.structs.fields(kind) if field.type is not Any)
    for kind in (*SESSION_EVENTS, *FEATURE_EVENTS, *MEMORY_EVENTS)
}
"""Event type → fields that hold texts, names or numbers: a long text of theirs is stored as a content."""
