"""Find the rows of ``contents``, ``paths`` and ``names`` that something still refers to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from eventlog.checkpoints import LANDMARKS
from eventlog.errors import EventFormatError
from eventlog.seal import BASE, CONTENT, EVENT, SNAPSHOT, Seal

Query = Callable[[str, Sequence[Any]], list[Any]]
"""Runs SQL on a connection and returns the rows."""

PAGE_ROWS = 500
LOOKUPS_MAX = 500

_EVENTS = "SELECT seq, payload, path, type, task, agent FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
_SNAPSHOTS = "SELECT id, state, projection, seq FROM snapshots WHERE id > ? AND state <> '' ORDER BY id LIMIT ?"
_BASES = "SELECT created_ns, seq, state, projections FROM bases WHERE created_ns > ?"
_BY_HASH = "SELECT id FROM contents WHERE hash IN ({marks})"
_BODIES = "SELECT parent, text, hash, iif(kind = 'text', '', body) FROM contents WHERE id IN ({marks})"
_EXECUTIONS = "SELECT path FROM executions UNION SELECT parent FROM executions WHERE parent IS NOT NULL"
_ABOVE = "SELECT parent FROM paths WHERE id IN ({marks})"

_REFERENCE = re.compile(r'"\$content":"([^"]{1,64})"')
"""As the codec writes it; a text that only looks like one keeps a row too many, no more."""


class Marking:
    """What is in use, as far as it was looked at; ``look`` again for what was written since."""

    def __init__(self, seal: Seal) -> None:
        """``seal``: of the log; nothing was looked at."""
        self._seal = seal
        self.contents: set[int] = set()
        self.names: set[int] = set(range(1, len(LANDMARKS) + 1))
        self.paths: set[int] = {0}
        self._seq = self._snapshot = self._base_ns = 0

    def look(self, query: Query, on_page: Callable[[int], None] = lambda _: None) -> None:
        """Take in all events, snapshots and bases that were written since the last time.

        An execution stands at the path of an event, so only those that are there at first are looked at.
        """
        if not self._seq:
            self._reach_paths(query, {row[0] for row in query(_EXECUTIONS, ())})
        for rows in self._events(query):
            self._take_names(query, rows)
            self.reach(query, (self._seal.unseal_text(row[1], EVENT, row[0]) for row in rows))
            on_page(len(rows))
        for texts in self._states(query):
            self.reach(query, texts)

    def _events(self, query: Query) -> Iterator[list[Any]]:
        """Yield pages of new events."""
        while rows := query(_EVENTS, (self._seq, PAGE_ROWS)):
            yield rows
            self._seq = rows[-1][0]

    def _states(self, query: Query) -> Iterator[list[str]]:
        """Yield the states of new snapshots, and of the bases that were made since."""
        unseal = self._seal.unseal_text
        while rows := query(_SNAPSHOTS, (self._snapshot, PAGE_ROWS)):
            yield [self._snapshot_text(*row[1:]) for row in rows]
            self._snapshot = rows[-1][0]
        rows = query(_BASES, (self._base_ns,))
        self._base_ns = max([self._base_ns, *(row[0] for row in rows)])
        for _, seq, state, projections in rows:
            yield [unseal(state, BASE, "state", seq), unseal(projections, BASE, "projections", seq)]

    def _snapshot_text(self, state: str, projection: str, seq: int) -> str:
        """Return a stored state; nothing for one that does not open: nobody will use it."""
        try:
            return self._seal.unseal_text(state, SNAPSHOT, projection, seq)
        except EventFormatError:
            return ""

    def _take_names(self, query: Query, rows: Iterable[Any]) -> None:
        """Take down the interned names and paths of events."""
        paths = set()
        for _, _, path, *names in rows:
            paths.add(path)
            self.names.update(name for name in names if name is not None)
        self._reach_paths(query, paths)

    def _reach_paths(self, query: Query, paths: set[int]) -> None:
        """Mark paths, and all above them."""
        waiting = paths - self.paths
        while waiting:
            self.paths |= waiting
            batch = sorted(waiting)
            waiting = set()
            for start in range(0, len(batch), LOOKUPS_MAX):
                chunk = batch[start : start + LOOKUPS_MAX]
                waiting |= {row[0] for row in query(_ABOVE.format(marks=_marks(chunk)), chunk)} - self.paths

    def reach(self, query: Query, texts: Iterable[str]) -> list[int]:
        """Mark the contents that texts refer to, and all that those refer to; returns what had not been marked."""
        waiting = self._new(query, {hit for text in texts for hit in _REFERENCE.findall(text)})
        reached: list[int] = []
        while waiting:
            reached += waiting[:LOOKUPS_MAX]
            batch, waiting = waiting[:LOOKUPS_MAX], waiting[LOOKUPS_MAX:]
            inner, rows = set[str](), query(_BODIES.format(marks=_marks(batch)), batch)
            for parent, text, name, body in rows:
                inner.update(_REFERENCE.findall(self._seal.unseal_text(body, CONTENT, name)))
                waiting += self._unmarked((parent, text))
            waiting += self._new(query, inner)
        return reached

    def _new(self, query: Query, hashes: set[str]) -> list[int]:
        """Mark contents by hash; returns those that were not marked yet."""
        found: list[int] = []
        names = sorted(hashes)
        for start in range(0, len(names), LOOKUPS_MAX):
            chunk = names[start : start + LOOKUPS_MAX]
            found += self._unmarked(row[0] for row in query(_BY_HASH.format(marks=_marks(chunk)), chunk))
        return found

    def _unmarked(self, rows: Iterable[int | None]) -> list[int]:
        """Mark contents by row; returns those that were not marked yet."""
        found = [row for row in rows if row is not None and row not in self.contents]
        self.contents.update(found)
        return found


def _marks(items: Sequence[Any]) -> str:
    """Return placeholders."""
    return ",".join("?" * len(items))
