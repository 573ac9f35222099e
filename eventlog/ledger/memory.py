"""What agents found: saved as events, searched by words and, with an embedder, by meaning.

::

    save ──▶ event ──▶ fold (memories.py) ──▶ index (memory_index.py, in memory) ──▶ search
               └ of the own run: along the lineage of its branch; of other runs and of none: their ``main``

Nothing of the index is ever written to the disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4, uuid5

import msgspec
from typing_extensions import Self

from eventlog import errors
from eventlog.cursors import find_moment
from eventlog.ledger import events as ev
from eventlog.ledger.book import Source
from eventlog.ledger.memories import (
    PRIVATE,
    SCOPES,
    SHARED,
    Key,
    MemoryChange,
    MemoryEntry,
    MemoryMatch,
    Remembered,
    Wish,
    find_memory,
    is_meant,
    text_of,
)
from eventlog.ledger.memory_shelf import Look, Shelf, shelf_of
from eventlog.ledger.memory_vectors import Embed, Embedder, by_likeness, fused, pack, unpack
from eventlog.lineage import SEQ_MAX
from eventlog.record import MAIN_BRANCH
from eventlog.submit import compose_event, submit_events
from eventlog.values import plain, resolve
from eventlog.writer import Writer, instead

Name = Callable[[Any], "tuple[str, str] | None"]
"""Returns the id of what is saved and the mark of the step that does it, if the step may save it again."""

DONE_AGAIN = "the step that saved it was done again"
_EVENTS = UUID("3d0c5b0e-9a53-5d6b-8f0e-6f1f6a1f7e2b")
"""Ids of events are made of this and of what names the memory."""


class Memory:
    """The memory of a namespace, as one branch of a run sees it. Safe to use from several threads.

    Of the own run it holds what stands in the lineage of the branch: a fork sees what its parent remembered up to
    the fork, and the parent never what the fork found. Of other runs, and of none, it holds what is on ``main``.
    """

    def __init__(
        self, source: Source, run: str = "", branch: str = MAIN_BRANCH, namespace: str | None = None,
        embedder: Embed | None = None, name: Name | None = None,
    ) -> None:  # fmt: skip
        """``namespace``: by default the name of the run; without either every namespace is read, and none written.

        ``embedder``: gives each text a vector; then a search ranks by meaning as well. ``name``: gives what is saved
        here an id that it has again when the same work is done again.
        """
        self._source, self.run, self.branch, self._name = source, run, branch, name
        self.namespace = namespace or run or None
        self._embedder = None if embedder is None else Embedder(embedder)

    def __deepcopy__(self, memo: Any) -> Self:
        """Return itself: a copy of a crew has the same memory."""
        return self

    def in_namespace(self, name: str) -> Memory:
        """Return the memory of another namespace, as the same branch sees it."""
        other = Memory(self._source, self.run, self.branch, name, name=self._name)
        other._embedder = self._embedder
        return other

    def with_embedder(self, embedder: Embed) -> Memory:
        """Return the same memory whose searches rank by meaning as well: ``embedder`` gives each text a vector."""
        return Memory(self._source, self.run, self.branch, self.namespace, embedder, self._name)

    # -- writing ----------------------------------------------------------------------------------

    def save(
        self,
        value: Any,
        *,
        metadata: Mapping[str, Any] | None = None,
        scope: str = SHARED,
        agent: str | None = None,
        memory_id: str | None = None,
    ) -> str:
        """Remember a text, or another JSON value, and return its id, after the commit.

        ``scope`` says who finds it: ``agent-private`` (this agent in this namespace), ``agent-shared`` (everybody in
        this namespace) or ``global``. What is saved under a ``memory_id`` that the namespace knows, also of something
        deleted, is not saved again. Secrets are redacted, as everywhere.

        Raises:
            MemoryScopeError: the scope is unknown, private without an agent, or there is no namespace.
            MemoryValueError: the value is empty.
            AppendError: it could not be stored.
        """
        namespace = self._checked(scope, agent)
        _require_value(value)
        made = None if self._name is None else self._name([namespace, value, dict(metadata or {}), scope, agent])
        if memory_id is None and made is not None:
            memory_id = made[0]
        name = uuid4().hex if memory_id is None else self._clean(memory_id)
        if memory_id is not None and (namespace, name) in self._look().memories.known:
            return name
        event = ev.MemorySaved(
            memory=name, namespace=namespace, value=value, scope=scope, agent=self._clean(agent),
            metadata={str(key): it for key, it in (metadata or {}).items()}, origin=made[1] if made else None,
            **self._embedded(value),
        )  # fmt: skip
        self._append(event, str(uuid5(_EVENTS, json.dumps([self.branch, namespace, name]))))
        return name

    def correct(
        self, memory_id: str, value: Any = None, metadata: Mapping[str, Any] | None = None, by: str | None = None
    ) -> None:
        """Say what a memory is from now on; what is not given stays. ``by`` says who: a private one has only its agent.

        Raises:
            MemoryNotFoundError: there is none, or ``by`` may not see it.
            MemoryValueError: there is nothing to correct it to.
            AppendError: it could not be stored.
        """
        if value is not None or metadata is None:
            _require_value(value)
        found = self._existing(memory_id, by)
        facts = None if metadata is None else {str(key): it for key, it in metadata.items()}
        vector = {} if value is None else self._embedded(value)
        self._append(
            ev.MemoryCorrected(
                memory=found.id, namespace=found.namespace, value=value, metadata=facts, by=self._clean(by), **vector
            )
        )

    def delete(self, memory_id: str, reason: str | None = None, by: str | None = None) -> None:
        """Have a memory found no more; its history says who did, and why. ``by``: as for ``correct``.

        Its text stays in the log, as an event does; ``log.forget`` takes a secret out of it.

        Raises:
            MemoryNotFoundError: there is none, or ``by`` may not see it.
            AppendError: it could not be stored.
        """
        found = self._existing(memory_id, by)
        self._append(ev.MemoryDeleted(memory=found.id, namespace=found.namespace, reason=reason, by=self._clean(by)))

    def retire(self, mark: str) -> None:
        """Have found no more what a step saved in its earlier rounds: it was done again, and this is its mark now.

        Raises:
            AppendError: it could not be stored.
        """
        step = mark.partition("~")[0]
        for found in [it.entry for it in self._look().memories.current()]:
            origin = found.origin or ""
            if found.run == (self.run or None) and origin != mark and origin.partition("~")[0] == step:
                self._append(ev.MemoryDeleted(memory=found.id, namespace=found.namespace, reason=DONE_AGAIN))

    # -- reading ----------------------------------------------------------------------------------

    def get(self, memory_id: str, *, agent: str | None = None, to: str | int | None = None) -> MemoryEntry:
        """Return a memory by its id, at a cursor.

        Raises:
            MemoryNotFoundError: there is none (any more), or ``agent`` may not see it.
        """
        return self._existing(memory_id, agent, to)

    def history(self, memory_id: str, *, agent: str | None = None, to: str | int | None = None) -> list[MemoryChange]:
        """Return who said what of a memory and when, oldest first, also of a deleted one.

        Raises:
            MemoryNotFoundError: there never was one, or ``agent`` may not see it.
        """
        return list(self._found(memory_id, agent, to).changes)

    def all(
        self, *, metadata: Mapping[str, Any] | None = None, agent: str | None = None, scope: str | None = None,
        to: str | int | None = None,
    ) -> list[MemoryEntry]:  # fmt: skip
        """Return everything that ``agent`` (nobody: whoever asks) may see, what changed last first.

        Raises:
            MemoryScopeError: there is no such scope.
            NotFoundError: no such branch or cursor.
        """
        look = self._look(to)
        return [found.entry for found in _meant(look, self._wish(agent, scope, metadata))]

    def search(
        self,
        query: str,
        *,
        limit: int = 10,
        metadata: Mapping[str, Any] | None = None,
        agent: str | None = None,
        scope: str | None = None,
        to: str | int | None = None,
    ) -> list[MemoryMatch]:
        """Return what fits a text best, the best first; of equals, what changed last.

        Found is whatever shares a word with the text, in its value or its metadata, whatever the form of the word;
        with an embedder also what is like it in meaning. A text without any word finds everything, what changed last
        first. ``agent`` is who asks: without one, nothing private is found. ``metadata`` and ``scope`` keep what is
        equal to them. ``to``: what was remembered at a cursor.

        Raises:
            MemoryScopeError: there is no such scope.
            NotFoundError: no such branch or cursor.
        """
        look = self._look(to, query)
        found = {it.key: it for it in _meant(look, self._wish(agent, scope, metadata))}
        scores = self._scores(query, look, found)
        best = sorted(scores, key=lambda key: (-scores[key], -found[key].seq))
        return [_match(found[key], scores[key]) for key in best[: max(limit, 0)]]

    def _scores(self, query: str, look: Look, found: Mapping[Key, Remembered]) -> dict[Key, float]:
        """Return what fits a query, with how well."""
        if not look.has_words:
            return dict.fromkeys(found, 0.0)
        words = {key: score for key, score in look.scores.items() if key in found}
        likeness = self._likeness(query, found)
        if likeness is None:
            return words

        def ranking(scores: Mapping[Key, float]) -> Sequence[Key]:
            return sorted(scores, key=lambda key: (-scores[key], -found[key].seq))

        return fused([ranking(words), ranking(likeness)])

    def clean(self, value: Any) -> Any:
        """Return a value as it would be stored, readable and without secrets; nothing is stored."""
        return plain(self._writer.encoder.inline(value))

    # -- meaning ----------------------------------------------------------------------------------

    def _embedded(self, value: Any) -> dict[str, str]:
        """Return the vector of a value, for its event; nothing without an embedder, or if it fails."""
        if self._embedder is None:
            return {}
        made = self._embedder.embed([text_of(self.clean(value))])  # a secret must not reach the service behind it
        return {} if made is None else {"vector": pack(made[0]), "embedder": self._embedder.name}

    def _likeness(self, query: str, found: Mapping[Key, Remembered]) -> dict[Key, float] | None:
        """Return how like a query memories are in meaning; ``None`` without an embedder, or if it fails."""
        wanted = None if self._embedder is None else self._embedder.embed([query])
        if self._embedder is None or wanted is None:
            return None
        name, reader, cache = self._embedder.name, self._source.reader, self._shelf.vectors
        vectors: dict[Key, Any] = {}
        missing: list[Remembered] = []
        for key, it in found.items():
            vector = cache.get((name, it.value_seq))
            if vector is None and it.embedder == name:
                vector = unpack(resolve(it.vector, reader.content))
            if vector is None or vector.shape != wanted[0].shape:
                missing.append(it)
            else:
                vectors[key] = cache[name, it.value_seq] = vector
        made = self._embedder.embed([text_of(it.entry.value) for it in missing]) if missing else []
        for it, vector in zip(missing, made or [], strict=False):
            vectors[it.key] = cache[name, it.value_seq] = vector
        return by_likeness(wanted[0], vectors)

    # -- the log ----------------------------------------------------------------------------------

    @property
    def _writer(self) -> Writer:
        """What writes; what is executed again writes elsewhere."""
        return instead.get() or self._source.writer

    @property
    def _shelf(self) -> Shelf:
        """What this process knows of the memories of the log."""
        return shelf_of(self._source)

    def _append(self, event: ev.WorkEvent, event_id: str | None = None) -> None:
        """Append an event; one that the run has is not appended again."""
        branch = self.branch if instead.get() is None else MAIN_BRANCH
        to = self._writer
        submit_events(to, [compose_event(to, event.event_type, ev.fields_of(event), self.run, branch, event_id)])

    def _look(self, to: str | int | None = None, query: str = "") -> Look:
        """Return what is remembered at a cursor."""
        reader = self._source.reader
        moment = SEQ_MAX if to is None else find_moment(reader, to, self.run, self.branch)
        return self._shelf.look(reader, self.run, self.branch, moment, query)

    def _found(self, memory_id: str, agent: str | None, to: str | int | None = None) -> Remembered:
        """Return a memory, also a deleted one."""
        found = find_memory(self._look(to).memories, memory_id, self._wish(agent))
        if found is None:
            raise errors.MemoryNotFoundError(memory_id)
        return found

    def _existing(self, memory_id: str, agent: str | None, to: str | int | None = None) -> MemoryEntry:
        """Return a memory that was not deleted."""
        found = self._found(memory_id, agent, to)
        if found.is_deleted:
            raise errors.MemoryNotFoundError(memory_id)
        return found.entry

    def _wish(self, agent: str | None, scope: str | None = None, metadata: Mapping[str, Any] | None = None) -> Wish:
        """Return who asks, and for what."""
        if scope is not None and scope not in SCOPES:
            raise errors.MemoryScopeError(f"there is no scope {scope!r}")
        facts = msgspec.json.decode(msgspec.json.encode(dict(metadata or {}), enc_hook=str))
        return Wish(namespace=self._clean(self.namespace), agent=self._clean(agent), scope=scope, metadata=facts)

    def _checked(self, scope: str, agent: str | None) -> str:
        """Return the namespace to save in, if it is clear who may see what is saved."""
        if scope not in SCOPES:
            raise errors.MemoryScopeError(f"there is no scope {scope!r}")
        if scope == PRIVATE and not agent:
            raise errors.MemoryScopeError(f"{PRIVATE} without an agent: nobody could ever see it")
        if self.namespace is None:
            raise errors.MemoryScopeError("there is no namespace to save in")
        return str(self._clean(self.namespace))

    def _clean(self, name: Any) -> Any:
        """Return a name as it is stored, without secrets; ``None`` for none."""
        try:
            return None if name is None else self._writer.encoder.text(str(name))
        except errors.LogUnwritableError:
            return name


def _meant(look: Look, wish: Wish) -> list[Remembered]:
    """Return what somebody asks for, what changed last first."""
    found = [it for it in look.memories.current() if is_meant(it.entry, wish)]
    return sorted(found, key=lambda it: -it.seq)


def _match(found: Remembered, score: float) -> MemoryMatch:
    """Return a memory as a search shows it."""
    entry = found.entry
    return MemoryMatch(**{name: getattr(entry, name) for name in entry.__struct_fields__}, score=score)


def _require_value(value: Any) -> None:
    """Return if there is something to remember.

    Raises:
        MemoryValueError: there is not.
    """
    is_blank = not value.strip() if isinstance(value, str) else value is None or value in ({}, [], ())
    if is_blank:
        raise errors.MemoryValueError("the value is empty")
