"""Turns what happens into stored events: place, encode, append. One per log file and process.

Nothing in here may raise ``Exception`` into the crew: errors are counted and kept for
``status()``. What a signal handler raises passes through, after the event it interrupted
has been stored.

Long, because an event goes through it in one order, at once or later, and an interrupted one begins again where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from copy import copy
from hashlib import blake2b, scrypt
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import structs

from eventlog import interrupts
from eventlog.capture.definitions import definition_of
from eventlog.capture.freezing import Freezer, Frozen
from eventlog.capture.headers import build, header_copy, payload_fields
from eventlog.capture.homes import Home, Homes
from eventlog.capture.hub import hub
from eventlog.capture.natives import native_fields, refuses_checkpoints
from eventlog.capture.playing import Player, kickoff_of, playing
from eventlog.capture.samples import Samples
from eventlog.capture.scopes import Place, Scopes
from eventlog.capture.secrets import secrets_of
from eventlog.codec import Encoded, Encoder
from eventlog.items import Made
from eventlog.logger import Logger
from eventlog.pipeline import Pipeline
from eventlog.record import (
    FLAG_OMITTED,
    FLAG_PLACEHOLDER,
    FLAG_REDACTED,
    FLAG_REPLAYED,
    FLAG_UNMARKED,
    NewEvent,
    join_path,
)
from eventlog.redact import NoRedactor
from eventlog.requests import without_addresses

log = Logger(__name__)


class Work(msgspec.Struct):
    """The capture of one event, as far as it got."""

    source: Any
    event: Any
    frozen: Encoded | None = None
    """The payload, if it had to be encoded before the event's turn came."""
    place: Place | None = None
    later: Frozen | None = None
    """A copy of the payload, to be encoded off this thread."""
    events: list[NewEvent] = []
    publish: list[Callable[[], None]] = []
    epoch: int = 0
    done: bool = False


class Recorder:
    """Captures into one log."""

    def __init__(
        self, pipeline: Pipeline, encoder: Encoder, mint: Callable[[str], Home], omits: Collection[str] = ()
    ) -> None:
        """``mint`` makes a run for a kickoff that has none; of event types in ``omits`` the payload is left out."""
        self.pipeline, self.encoder, self.omits = pipeline, encoder, frozenset(omits)
        self.homes = Homes(mint)
        self.captured = self.errors = self.placeholders = self.redacted = 0
        self.last_error: str | None = None
        self.file = ""
        """Path of the log."""
        self.on_committed: Callable[[NewEvent], None] | None = None
        """Told about every event that was handed over; must be quick."""
        self._scopes: Scopes | None = None
        self._samples = Samples(self)
        self._freezer = Freezer()
        self._salt_bytes: bytes | None = None

    @property
    def scopes(self) -> Scopes:
        """The call tree; made when CrewAI is there."""
        if self._scopes is None:
            self._scopes = Scopes(self.homes, self.encoder.text, self.hash_of, lambda k: k.hash_for(self))
        return self._scopes

    # -- events of the bus ----------------------------------------------------------------------

    def freeze(self, work: Work) -> None:
        """Keep what an event holds now: it is stored after the emission that its signal handler interrupted."""
        try:
            work.frozen = self.encoder.encode(self._fields(work.event))
            work.event = copy(work.event)
        except Exception as error:
            self._note(error)

    def capture(self, work: Work) -> None:
        """Store an event. Raises only what a signal handler raises, after the event was stored."""
        if not work.done:
            interrupts.complete(lambda: self._finish(work), self._note)
            work.done = True

    def _finish(self, work: Work) -> None:
        """Do all steps that are left; when interrupted, once more."""
        self._prepare(work)
        self._store(work)

    def _prepare(self, work: Work) -> None:
        """Place and encode, each once."""
        if work.place is None:
            work.place = self.scopes.place(work.source, work.event)
            if work.place is None:
                work.done = True
            elif work.place.opens is not None:
                self._tell_kickoff(work, work.place)
        if not work.done and not work.events and work.later is None and not self._leaves_for_later(work):
            self._encode(work)

    def _leaves_for_later(self, work: Work) -> bool:
        """Copy the payload, if the pipeline may encode it later and nothing else goes with the event."""
        place, event_type = work.place, work.event.type
        if not self.pipeline.encodes_later or place is None or work.frozen is not None:
            return False
        if place.opens is not None or event_type == "agent_execution_started" or playing.get() is not None:
            return False
        publish: list[Callable[[], None]] = []
        if self._samples.before(work.source, work.event, place, publish) or publish:
            return False  # taken again when the event is encoded: that may tell what is secret in them
        work.later = self._freezer.freeze(self._fields(work.event))
        return work.later is not None

    def _encode(self, work: Work) -> None:
        """Encode the event and the library's own events that go with it."""
        place = work.place
        if place is None:
            return
        if place.opens is not None:
            self._learn_secrets(work.source)
            work.frozen = None  # it may hold what was only now learned to be secret
        encoded = work.frozen or self.encoder.encode(self._fields(work.event))
        encoded.flags |= self._flags(work)
        main = build(work.event, encoded, place, self.encoder.text)
        work.epoch, work.publish = encoded.epoch, []
        before = self._samples.before(work.source, work.event, place, work.publish)
        work.publish.append(encoded.publish)
        if (player := playing.get()) is not None and player.recorder is self:
            before = [_marked(player, e, dict) for e in before]
            main = _marked(player, main, lambda: self._whole(work.event))
        after = [e for e in (self._definition(work.source, work.event, place, work.publish),) if e is not None]
        work.events = [*before, main, *after]

    def _fields(self, event: Any) -> dict[str, Any]:
        """Return what is kept of an event's payload."""
        return {} if event.type in self.omits else payload_fields(event)

    def _flags(self, work: Work) -> int:
        """Return what is said of an event beside what its encoding says."""
        omitted = FLAG_OMITTED if work.event.type in self.omits else 0
        return omitted | (FLAG_UNMARKED if refuses_checkpoints(work.source, work.event) else 0)

    def _whole(self, event: Any) -> Any:
        """Return an event's payload with every text in its place."""
        return self.encoder.inline(payload_fields(event))

    def _tell_kickoff(self, work: Work, place: Place) -> None:
        """Let the kickoff that was called know where it stands."""
        kickoff = kickoff_of(work.event.task if work.event.type == "task_started" else work.source)
        if kickoff is not None and place.execution is not None:
            kickoff.place(self, place.home, place.path, is_root=place.execution.parent is None)

    def _store(self, work: Work) -> None:
        """Hand the events over; encode again if contents were forgotten meanwhile."""
        if work.done or work.place is None:
            return
        if work.later is not None:
            self._hand_over_later(work, work.place, work.later)
        else:
            if work.epoch != self.encoder.index.epoch:
                work.events, work.frozen = [], None
                self._encode(work)
            self._hand_over(work.events, work.publish)
        work.done = True
        self.captured += 1

    def _hand_over(self, events: list[NewEvent], publish: list[Callable[[], None]]) -> None:
        """Append, and count what encoding had to change."""

        def publish_all() -> None:
            for call in publish:
                call()

        if not self.pipeline.offer(events, publish_all):
            self.encoder.index.clear()  # bodies that were to be stored are gone
            return
        self._note_queued(events)

    def _hand_over_later(self, work: Work, place: Place, frozen: Frozen) -> None:
        """Leave the encoding of a copy to the pipeline."""
        header, flags = header_copy(work.event), self._flags(work)

        def make() -> Made:
            try:
                encoded = self.encoder.encode(frozen.fields)
                encoded.flags |= flags
                events = [build(header, encoded, place, self.encoder.text)]
            except Exception as error:
                if interrupts.raised_by_handler(error):
                    raise
                lost = error
                return (), lambda: self._note_lost(lost)

            def queued() -> None:
                encoded.publish()
                self._note_queued(events)

            return events, queued

        self.pipeline.offer_later(make, frozen.bytes, (place.home.run, place.home.branch))

    def _note_queued(self, events: list[NewEvent]) -> None:
        """Count what encoding had to change, and tell who follows."""
        for event in events:
            self.placeholders += bool(event.flags & FLAG_PLACEHOLDER)
            self.redacted += bool(event.flags & FLAG_REDACTED)
            if self.on_committed is not None:
                self.on_committed(event)

    # -- the library's own events -----------------------------------------------------------------

    def guarded(self, act: Callable[[Recorder], None]) -> None:
        """Do something on the crew's thread without ever hurting it."""
        try:
            act(self)
        except Exception as error:
            if interrupts.raised_by_handler(error):
                raise
            self._note(error)

    def append_own(self, event_type: str, fields: Mapping[str, Any]) -> None:
        """Store an event of our own where this context is."""
        self._append(event_type, fields, get_parent(), numbered=False)

    def append_numbered(self, event_type: str, fields: Mapping[str, Any], parent: str | None = None) -> None:
        """Store an exchange as the n-th of its type in its scope."""
        self._append(event_type, fields, parent or get_parent(), numbered=True)

    def append_at(self, home: Home, path: tuple[str, ...], event_type: str, fields: Mapping[str, Any]) -> None:
        """Store an event of our own at a place that is not this context's."""
        encoded = self.encoder.encode(fields)
        self._hand_over([self.built(event_type, encoded, home, path)], [encoded.publish])

    def _append(self, event_type: str, fields: Mapping[str, Any], parent: str | None, *, numbered: bool) -> None:
        """Place, encode and hand over an event of our own."""
        scope = self.scopes.scope(parent)
        home = scope.home if scope else self.homes.find(None, event_type, is_root=False)
        if home is None:
            return
        if numbered:
            fields = {"n": self.scopes.next_number(scope, home, event_type), **fields}
        encoded = self.encoder.encode(fields)
        event = self.built(event_type, encoded, home, scope.path if scope else (), parent)
        self._hand_over([event], [encoded.publish])

    def built(
        self,
        event_type: str,
        encoded: Encoded,
        home: Home,
        path: tuple[str, ...],
        parent_event_id: str | None = None,
        closes: tuple[tuple[str, ...], str] | None = None,
        *,
        releases: bool = False,
    ) -> NewEvent:
        """Return an event of our own around an encoded payload."""
        return NewEvent(
            type=event_type,
            event_id=str(uuid4()),
            at_ns=time.time_ns(),
            payload=encoded.payload,
            contents=encoded.contents,
            flags=encoded.flags,
            run=home.run,
            branch=home.branch,
            attribution=home.attribution,
            parent_event_id=parent_event_id,
            path=path,
            closes=closes,
            releases=releases,
        )

    def _definition(self, source: Any, event: Any, place: Place, publish: list[Callable[[], None]]) -> NewEvent | None:
        """Return the definition of what starts to run, unless the run has it already."""
        home = place.home
        fields = definition_of(source, event, home.agents, is_execution=place.opens is not None)
        if fields is None:
            return None
        if place.opens is not None and (player := playing.get()) is not None and player.recorder is self:
            player.take_definition(join_path(place.path), fields)
        if place.opens is not None and place.opens.parent is None:
            fields = {**fields, **native_fields(source, event)}
        encoded = self.encoder.encode(fields)
        mark = blake2b(repr(place.path).encode() + encoded.payload, digest_size=16).digest()
        if mark in home.definitions:
            return None
        publish.append(encoded.publish)
        publish.append(lambda: home.definitions.add(mark))
        publish.append(lambda: home.agents.update(line["id"] for line in fields.get("agents", ())))
        made = self.built("eventlog.definition", encoded, home, place.path, event.event_id)
        if (player := playing.get()) is None or player.recorder is not self:
            return made
        return _marked(player, made, lambda: self.encoder.inline({k: v for k, v in fields.items() if v is not None}))

    def abort(self, top: str | None, keep: str | None, error: BaseException) -> None:
        """Record that the executions between two scopes died without an event of their own."""
        for scope, released in self.scopes.abort(top, keep):
            encoded, closes = self.encoder.encode({"error": error}), (scope.path, "interrupted")
            event = self.built(
                "eventlog.execution_aborted", encoded, scope.home, scope.path, scope.event_id, closes, releases=released
            )
            self._hand_over([event], [encoded.publish])

    # -- helpers ------------------------------------------------------------------------------------

    def hash_of(self, value: Any) -> str:
        """Return a short hash of any value, the same in every process; two that differ in a time or an id differ.

        Where redaction took something, the whole value is hashed slowly and with the log's own salt: inputs that
        differ in a secret must not be taken for each other, and nobody shall find the secret by its hash.
        """
        encoder = Encoder(self.encoder.redactor) if self.encoder.index.key else self.encoder
        encoded = encoder.encode({"v": value})  # without the key of a sealed log: a log it is moved to has another one
        if encoded.flags & FLAG_REDACTED:
            whole = without_addresses(Encoder(NoRedactor()).encode_inline({"v": value}))
            return scrypt(whole, salt=self._salt(), n=2**13, r=8, p=1, dklen=8).hex()
        return blake2b(without_addresses(encoded.payload), digest_size=8).hexdigest()

    def _salt(self) -> bytes:
        """Return the salt of this log: random, made with the file."""
        if self._salt_bytes is None:
            self._salt_bytes = self.pipeline.run_exclusively(lambda appender: appender.salt())
        return self._salt_bytes

    def _learn_secrets(self, source: Any) -> None:
        """Look once at every object that starts to run, so that its credentials are known before its events."""
        if self.encoder.redactor.learn_all(secrets_of(source)):
            self.encoder.index.clear()

    def _note(self, error: Exception) -> None:
        """Keep an error of ours where a person will see it."""
        self.errors += 1
        self.last_error = f"{type(error).__name__}: {error}"
        log.warning("capture_failed", error=self.last_error)

    def _note_lost(self, error: Exception) -> None:
        """Take back that an event was captured: it could not be encoded."""
        self.captured -= 1
        self._note(error)

    @property
    def mode(self) -> str:
        """How events are captured now."""
        return hub.mode if self in hub.recorders else "off"

    def start(self, *, capture_all: bool = False) -> None:
        """Begin to capture; ``capture_all``, for a listener, also what belongs to no open run."""
        if capture_all:
            self.homes.listen()
        hub.add(self)

    def pause_if_idle(self) -> None:
        """Capture no more once no run is open and no listener is there."""
        if not self.homes.listeners and not self.homes.has_open_runs():
            hub.discard(self)

    def stop(self) -> None:
        """Capture no more."""
        self.homes.listeners = 0
        hub.discard(self)

    def after_fork_in_child(self) -> None:
        """Locks of threads that are not here any more must not be waited for; nor their unwritten contents trusted."""
        if self._scopes is not None:
            self._scopes.after_fork_in_child()
        self.encoder.index.clear()


def _marked(player: Player, event: NewEvent, whole: Callable[[], Any]) -> NewEvent:
    """Return the event, flagged if the player knows it from an earlier process."""
    return structs.replace(event, flags=event.flags | FLAG_REPLAYED) if player.is_replayed(event, whole) else event


def get_parent() -> str | None:
    """Return the event id of the scope this context is in."""
    from crewai.events.event_context import get_current_parent_id  # noqa: PLC0415 - CrewAI is loaded by now

    return get_current_parent_id()
