"""The fold of the memory: from its events to what is remembered, and who may see it. Pure.

An id names a memory of its namespace: what is saved under one a second time counts once, also after it was deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from eventlog.ledger import events as ev
from eventlog.record import MAIN_BRANCH, EventHeader
from eventlog.values import plain

PRIVATE, SHARED, GLOBAL = "agent-private", "agent-shared", "global"
SCOPES = (PRIVATE, SHARED, GLOBAL)
"""Who may see a memory: its agent in its namespace, everybody in its namespace, everybody."""

Key = tuple[str, str]
"""Namespace and id."""
Spans = Mapping[str, tuple[int, int]]
"""Branch of a lineage → the seqs of it that belong to the lineage: after the first, up to the second."""


class MemoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered."""

    id: str
    value: Any
    """Readable; large values filled in."""
    agent: str | None = None
    """Who found it."""
    scope: str = SHARED
    namespace: str = ""
    metadata: dict[str, Any] = {}
    run: str | None = None
    """The run it was saved in; ``None``: in none."""
    origin: str | None = None
    """Mark of the step that saved it: ``@ITEM``, in later rounds ``@ITEM~1``…"""
    created_at_ns: int
    updated_at_ns: int


class MemoryMatch(MemoryEntry, frozen=True, kw_only=True):
    """What a search found."""

    score: float = 0.0
    """Higher is better; to be compared within one search only."""


class MemoryChange(msgspec.Struct, frozen=True, kw_only=True):
    """Who said what of a memory, and when."""

    seq: int
    at_ns: int
    action: Literal["saved", "corrected", "deleted"]
    by: str | None = None
    run: str | None = None
    branch: str = MAIN_BRANCH
    value: Any = None
    """What it was from then on; ``None``: as before."""
    metadata: dict[str, Any] | None = None
    reason: str | None = None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the memory, its values readable."""

    seq: int
    at_ns: int
    run: str | None
    branch: str
    event: ev.WorkEvent
    vector: Any = None
    """As it is stored: perhaps a reference."""


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """A memory with what only we need to know of it."""

    entry: MemoryEntry
    seq: int
    """Of the last event about it."""
    value_seq: int
    """Of the event that gave it its value."""
    vector: Any = None
    embedder: str | None = None
    is_deleted: bool = False
    changes: tuple[MemoryChange, ...] = ()

    @property
    def key(self) -> Key:
        """What names it."""
        return self.entry.namespace, self.entry.id


class Memories(msgspec.Struct, kw_only=True):
    """The state of the fold."""

    known: dict[Key, Remembered] = {}
    """Also what was deleted."""
    by_id: dict[str, list[Key]] = {}
    ignored: int = 0
    """Events that said nothing, or nothing new."""

    def current(self) -> Iterator[Remembered]:
        """Yield what is remembered."""
        return (found for found in self.known.values() if not found.is_deleted)


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and for what."""

    namespace: str | None = None
    """``None``: somebody who may look into every namespace."""
    agent: str | None = None
    scope: str | None = None
    metadata: Mapping[str, Any] = {}


# -- reading ------------------------------------------------------------------------------------------

_KINDS: dict[str, type[ev.WorkEvent]] = {kind.event_type: kind for kind in ev.MEMORY_EVENTS}


def read_told(header: EventHeader, tree: Any, resolve: Callable[[Any], Any]) -> Told | None:
    """Return what an event of the memory says; ``None`` for one that says no such thing (any more)."""
    if not isinstance(tree, dict) or header.type not in _KINDS:
        return None
    shown = {name: plain(resolve(value)) for name, value in tree.items() if name != "vector"}
    if "metadata" in shown:
        shown["metadata"] = _as_dict(shown["metadata"])
    try:
        event = msgspec.convert(shown, _KINDS[header.type])
    except (msgspec.MsgspecError, RecursionError):
        return None
    return Told(
        seq=header.seq, at_ns=header.at_ns, run=header.run, branch=header.branch, event=event,
        vector=tree.get("vector"),
    )  # fmt: skip


def _as_dict(tree: Any) -> Any:
    """Return a mapping whose keys looked like tags, and which was kept as pairs, as a mapping."""
    pairs = isinstance(tree, list) and all(isinstance(pair, list) and len(pair) == len("kv") for pair in tree)
    return {str(key): value for key, value in tree} if pairs else tree


def is_of_lineage(told: Told, run: str, spans: Spans | None) -> bool:
    """Whether an event counts for a branch of a run: of other runs, and of none, only ``main`` does.

    ``spans``: the lineage of that branch; ``None``: all of ``main``.
    """
    if spans is None or told.run != run:
        return told.branch == MAIN_BRANCH
    low, high = spans.get(told.branch, (0, 0))
    return low < told.seq <= high


# -- folding ------------------------------------------------------------------------------------------


def apply(state: Memories, told: Told) -> Key | None:
    """Fold one event and return which memory is another one now; ``None``: none."""
    key = _RULES[type(told.event)](state, told, told.event)
    state.ignored += key is None
    return key


def _saved(state: Memories, told: Told, event: ev.MemorySaved) -> Key | None:
    key = (event.namespace, event.memory)
    if key in state.known or event.scope not in SCOPES or (event.scope == PRIVATE and not event.agent):
        return None
    entry = MemoryEntry(
        id=event.memory, value=event.value, agent=event.agent, scope=event.scope, namespace=event.namespace,
        metadata=event.metadata, run=told.run, origin=event.origin, created_at_ns=told.at_ns, updated_at_ns=told.at_ns,
    )  # fmt: skip
    change = _change(told, action="saved", by=event.agent, value=event.value, metadata=event.metadata)
    state.known[key] = Remembered(
        entry=entry, seq=told.seq, value_seq=told.seq, vector=told.vector, embedder=event.embedder, changes=(change,)
    )
    state.by_id.setdefault(event.memory, []).append(key)
    return key


def _corrected(state: Memories, told: Told, event: ev.MemoryCorrected) -> Key | None:
    found = _meant(state, event.namespace, event.memory)
    if found is None:
        return None
    entry = msgspec.structs.replace(
        found.entry,
        value=found.entry.value if event.value is None else event.value,
        metadata=found.entry.metadata if event.metadata is None else event.metadata,
        updated_at_ns=told.at_ns,
    )
    change = _change(told, action="corrected", by=event.by, value=event.value, metadata=event.metadata)
    found = msgspec.structs.replace(found, entry=entry, seq=told.seq, changes=(*found.changes, change))
    if event.value is not None:
        found = msgspec.structs.replace(
            found, value_seq=told.seq, vector=told.vector, embedder=event.embedder
        )  # that of the former value says nothing of this one
    state.known[found.key] = found
    return found.key


def _deleted(state: Memories, told: Told, event: ev.MemoryDeleted) -> Key | None:
    found = _meant(state, event.namespace, event.memory)
    if found is None:
        return None
    change = _change(told, action="deleted", by=event.by, reason=event.reason)
    state.known[found.key] = msgspec.structs.replace(
        found, seq=told.seq, is_deleted=True, changes=(*found.changes, change)
    )
    return found.key


def _meant(state: Memories, namespace: str | None, name: str) -> Remembered | None:
    """Return the memory an event means; without a namespace, if only one can be meant."""
    keys = state.by_id.get(name, [])
    key = (namespace, name) if namespace is not None else keys[0] if len(keys) == 1 else None
    found = state.known.get(key) if key is not None else None
    return None if found is None or found.is_deleted else found


def _change(told: Told, **facts: Any) -> MemoryChange:
    """Return what an event tells of a memory."""
    return MemoryChange(seq=told.seq, at_ns=told.at_ns, run=told.run, branch=told.branch, **facts)


_RULES: dict[type[ev.WorkEvent], Callable[[Memories, Told, Any], Key | None]] = {
    ev.MemorySaved: _saved,
    ev.MemoryCorrected: _corrected,
    ev.MemoryDeleted: _deleted,
}


# -- who may see what -----------------------------------------------------------------------------------


def may_see(entry: MemoryEntry, namespace: str | None, agent: str | None) -> bool:
    """Whether somebody in a namespace (``None``: in all of them) may see a memory."""
    if entry.scope == GLOBAL:
        return True
    if namespace is not None and entry.namespace != namespace:
        return False
    return entry.scope == SHARED or (entry.scope == PRIVATE and agent is not None and entry.agent == agent)


def is_meant(entry: MemoryEntry, wish: Wish) -> bool:
    """Whether a memory may be seen by who asks, and is what they ask for."""
    return (
        may_see(entry, wish.namespace, wish.agent)
        and wish.scope in (None, entry.scope)
        and all(name in entry.metadata and _same(entry.metadata[name], it) for name, it in wish.metadata.items())
    )


def _same(stored: Any, wanted: Any) -> bool:
    """Whether two JSON values are equal; ``true`` is not 1."""
    return bool(stored == wanted) and isinstance(stored, bool) == isinstance(wanted, bool)


def find_memory(state: Memories, name: str, wish: Wish) -> Remembered | None:
    """Return a memory by its id, also a deleted one; one of the own namespace comes first."""
    found = (state.known[key] for key in state.by_id.get(name, []))
    seen = (it for it in found if may_see(it.entry, wish.namespace, wish.agent))
    return min(seen, key=lambda it: (it.entry.namespace != wish.namespace, it.is_deleted), default=None)


# -- text -----------------------------------------------------------------------------------------------


def text_of(value: Any) -> str:
    """Return all words of a JSON value: texts, keys and numbers, in order."""
    if isinstance(value, str):
        return value
    parts: list[str] = []
    work = [value]
    while work:
        node = work.pop()
        if isinstance(node, dict):
            work.extend(part for pair in reversed(node.items()) for part in reversed(pair))
        elif isinstance(node, list):
            work.extend(reversed(node))
        elif node is not None:
            parts.append(str(node))
    return " ".join(parts)
