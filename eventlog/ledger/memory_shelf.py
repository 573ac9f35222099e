"""What this process knows of the memories of a log: each event is read once, and folded once per lineage.

Derived, and held in memory only. It begins anew when rows were rewritten (something was forgotten, or the log was
compacted), and when the path of the log leads to another file.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from eventlog.errors import BranchNotFoundError, EventFormatError, RunNotFoundError
from eventlog.ledger.book import Source
from eventlog.ledger.events import MEMORY_EVENTS, types_of
from eventlog.ledger.memories import Key, Memories, Remembered, Spans, Told, apply, is_of_lineage, read_told, text_of
from eventlog.lineage import SEQ_MAX
from eventlog.nesting import decode_payload
from eventlog.read import Reader
from eventlog.record import MAIN_BRANCH
from eventlog.values import resolve

if TYPE_CHECKING:
    from eventlog.ledger.memory_index import MemoryIndex

TYPES = types_of(*MEMORY_EVENTS)
VIEWS_MAX = 16
"""Lineages whose fold is kept; that of ``main`` always is."""


class View:
    """The memories as one lineage sees them."""

    def __init__(self, run: str = "", spans: Spans | None = None) -> None:
        """``spans``: the lineage in its run; ``None``: ``main``."""
        self.memories = Memories()
        self._run, self._spans = run, spans
        self._position = 0
        self._rows: dict[Key, int] = {}
        self._keys: list[Key] = []
        self._changed: dict[Key, None] = {}
        self._index: MemoryIndex | None = None

    def fold(self, told: Sequence[Told], to: int = SEQ_MAX) -> View:
        """Fold what came since, up to a seq, and return itself."""
        for event in told[self._position :]:
            if event.seq <= to and is_of_lineage(event, self._run, self._spans):
                key = apply(self.memories, event)
                if key is not None:
                    self._changed[key] = None
        self._position = len(told)
        return self

    def scores(self, query: str) -> dict[Key, float] | None:
        """Return the memories that share a word with a text, with how well they fit; ``None``: it has no words."""
        if self._index is None:
            from eventlog.ledger.memory_index import MemoryIndex  # noqa: PLC0415 - sqlite-utils, only to search

            self._index = MemoryIndex()
        self._bring_up_to_date(self._index)
        scores = self._index.scores(query)
        return None if scores is None else {self._keys[row]: score for row, score in scores.items()}

    def _bring_up_to_date(self, index: MemoryIndex) -> None:
        """Index what has changed."""
        found = [self.memories.known[key] for key in self._changed]
        index.put(
            (self._row(it), text_of(it.entry.value), text_of(it.entry.metadata)) for it in found if not it.is_deleted
        )
        index.remove(self._rows[it.key] for it in found if it.is_deleted and it.key in self._rows)
        self._changed.clear()

    def _row(self, found: Remembered) -> int:
        """Return the row of a memory in the index."""
        row = self._rows.setdefault(found.key, len(self._keys))
        if row == len(self._keys):
            self._keys.append(found.key)
        return row


class Look(msgspec.Struct, frozen=True):
    """What a lineage remembers at a moment."""

    memories: Memories
    scores: dict[Key, float]
    """Of the memories that share a word with the query."""
    has_words: bool
    """Whether the query holds any word."""


class Shelf:
    """The memories of one log. Safe to use from several threads."""

    def __init__(self) -> None:
        """It begins empty."""
        self._lock = threading.RLock()
        self.vectors: dict[tuple[str, int], Any] = {}
        """Embedder and ``value_seq`` → vector of what was saved without one."""
        self._begin_anew(None, 0)

    def _begin_anew(self, reader: Reader | None, rewritten: int) -> None:
        """Trust nothing that was read before."""
        self._reader = None if reader is None else weakref.ref(reader)
        self._rewritten, self._seq = rewritten, 0
        self._told: list[Told] = []
        self._views: dict[tuple[str, str], View] = {}
        self.vectors.clear()

    def look(self, reader: Reader, run: str, branch: str, to: int = SEQ_MAX, query: str = "") -> Look:
        """Return what a branch of a run remembers up to a seq, and how well it fits a query.

        Raises:
            BranchNotFoundError: the run has no such branch.
        """
        with self._lock:
            self._catch_up(reader)
            view = self._view(reader, run, branch) if to == SEQ_MAX else View(run, spans_of(reader, run, branch))
            view.fold(self._told, to)
            scores = view.scores(query) if query else None
            state = view.memories
            by_id = {name: keys.copy() for name, keys in state.by_id.items()}
            return Look(
                Memories(known=state.known.copy(), by_id=by_id, ignored=state.ignored), scores or {}, scores is not None
            )

    def _view(self, reader: Reader, run: str, branch: str) -> View:
        """Return the fold of a lineage that is kept; all of ``main`` is one."""
        key = ("", MAIN_BRANCH) if branch == MAIN_BRANCH else (run, branch)
        spans = spans_of(reader, run, branch)
        found = self._views.get(key)
        if found is None:
            found = self._views[key] = View(run, spans)
            for old in [it for it in self._views if it[0]][:-VIEWS_MAX]:
                del self._views[old]
        return found

    def _catch_up(self, reader: Reader) -> None:
        """Read what came since."""
        rewritten = reader.rewritten()
        if self._reader is None or self._reader() is not reader or self._rewritten != rewritten:
            reader.forget()  # another process may have done it: what the reader has in memory is as old
            self._begin_anew(reader, rewritten)
        head = reader.last_seq()
        for event in reader.stored(None, after=self._seq, to=head, types=TYPES, kept=True):
            try:
                tree = decode_payload(event.payload)
            except EventFormatError:  # of an imported log
                continue
            told = read_told(event, tree, lambda value: resolve(value, reader.content))
            if told is not None:
                self._told.append(told)
            self._seq = event.seq
        self._seq = max(self._seq, head)


def spans_of(reader: Reader, run: str, branch: str) -> Spans | None:
    """Return the lineage of a branch; ``None`` for ``main``.

    Raises:
        BranchNotFoundError: the run has no such branch.
    """
    if branch == MAIN_BRANCH:
        return None
    try:
        row = reader.branch_id(run, branch)
    except RunNotFoundError:
        raise BranchNotFoundError(f"{run}/{branch}") from None
    return {reader.branch_name(owner)[1]: (low, high) for owner, low, high in reader.ancestry(row)}


_shelves: weakref.WeakKeyDictionary[Source, Shelf] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def shelf_of(source: Source) -> Shelf:
    """Return what this process knows of a log."""
    with _lock:
        return _shelves.setdefault(source, Shelf())


def _after_fork_in_child() -> None:
    """The thread that held a lock may not exist here."""
    global _lock, _shelves
    _lock, _shelves = threading.Lock(), weakref.WeakKeyDictionary()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
