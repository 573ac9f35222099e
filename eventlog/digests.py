"""The digest of a stored row, computed anew from what the file holds."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from eventlog.chain import DIGEST_BYTES, Chain
from eventlog.contents import Cache
from eventlog.errors import EventFormatError

COLUMNS = (
    "seq, branch, run, event_id, type, at_ns, parent, previous, triggered, started, emission, task, agent, path,"
    " flags, payload, digest"
)
CACHED_MAX = 10_000
PATH_DEPTH_MAX = 1_000
REMEMBERED_DEPTH_MAX = 50

Pair = tuple[str, str]


class Row(NamedTuple):
    """A row of ``events``, as it is stored."""

    seq: int
    branch: Any
    run: Any
    event_id: Any
    type: Any
    at_ns: Any
    parent: Any
    previous: Any
    triggered: Any
    started: Any
    emission: Any
    task: Any
    agent: Any
    path: Any
    flags: Any
    payload: Any
    digest: Any


class BrokenRowError(EventFormatError):
    """A row holds what no log writes; the text says what."""


def keep_bytes(data: bytes) -> str:
    """Return a stored text; bytes that are no UTF-8 survive the way there and back."""
    return data.decode("utf-8", "surrogateescape")


def as_stored(text: str) -> bytes:
    """Return the bytes of a stored text."""
    return text.encode("utf-8", "surrogateescape")


class Interned:
    """Names and paths by their rows."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """``db``: of the log; its texts come as ``keep_bytes`` makes them."""
        self._db = db
        self._names: Cache[int, tuple[str, str, str]] = Cache(CACHED_MAX)
        self._paths: Cache[int, str] = Cache(CACHED_MAX)

    def name(self, row: Any, kind: str) -> Pair:
        """Return a name of a kind and its label.

        Raises:
            BrokenRowError: there is none.
        """
        known = self._names.get(row)
        if known is None:
            known = self._one("SELECT kind, name, label FROM names WHERE id = ?", row)
            if known is None:
                raise BrokenRowError(f"its {kind} is row {row!r} of names, which is not there")
            self._names.put(row, known)
        if known[0] != kind:
            raise BrokenRowError(f"its {kind} is row {row!r} of names, which is a {known[0]}")
        return known[1], known[2]

    def path(self, row: Any) -> str:
        """Return a logical path as text.

        Raises:
            BrokenRowError: it, or one above it, is not there.
        """
        if row == 0:
            return ""
        known = self._paths.get(row)
        if known is not None:
            return known
        below: list[tuple[int, str]] = []
        current, above = row, None
        while current != 0 and above is None and len(below) < PATH_DEPTH_MAX:
            found = self._one("SELECT parent, label FROM paths WHERE id = ?", current)
            if found is None:
                raise BrokenRowError(f"its path is row {row!r} of paths, where row {current!r} is missing")
            below.append((current, str(found[1])))
            current = found[0]
            above = self._paths.get(current)
        return remember_paths(self._paths, above or "", below)

    def _one(self, sql: str, row: Any) -> Any:
        """Return a row; none when it is not there or cannot be read."""
        try:
            return self._db.execute(sql, (row,)).fetchone()
        except sqlite3.Error:
            return None


def remember_paths(known: Cache[int, str], above: str, below: Sequence[tuple[int, str]]) -> str:
    """Return the path of the first of ``below``: rows with their labels, upwards to one whose path is ``above``.

    Those on the way are remembered, too: the next one is mostly their neighbour. A deep one is damage, mostly.
    """
    path = above
    for row, label in reversed(below):
        path = f"{path}/{label}"
        if len(below) <= REMEMBERED_DEPTH_MAX or row == below[0][0]:
            known.put(row, path)
    return path


def facts_of(row: Row, interned: Interned) -> tuple[Any, ...]:
    """Return what the digest of an event covers, as ``Chain.digest`` wants it: facts, path, flags, payload.

    Raises:
        BrokenRowError: the row holds what no log writes.
    """
    if type(row.payload) is not str:
        raise BrokenRowError("its payload is no text")
    if type(row.digest) is not bytes or len(row.digest) != DIGEST_BYTES:
        raise BrokenRowError("its digest is none")
    kind = interned.name(row.type, "type")[0]
    task = None if row.task is None else interned.name(row.task, "task")
    agent = None if row.agent is None else interned.name(row.agent, "agent")
    links = (row.parent, row.previous, row.triggered, row.started)
    facts = (row.event_id, kind, row.at_ns, *links, row.emission, task, agent)
    return facts, interned.path(row.path), row.flags, as_stored(row.payload)


def digest_after(chain: Chain, previous: bytes, row: Row, facts: tuple[Any, ...]) -> bytes:
    """Return the digest of an event after another; ``facts`` from ``facts_of``.

    Raises:
        BrokenRowError: it holds what no log writes.
    """
    try:
        return chain.digest(previous, row.seq, *facts)
    except (ValueError, TypeError, OverflowError) as error:  # text that is no UTF-8, among others
        raise BrokenRowError(f"it cannot be read: {error}") from error


def tombstone_of(chain: Chain, row: Row, facts: tuple[Any, ...]) -> bytes:
    """Return the proof of a row that differs from its digest on purpose.

    Raises:
        BrokenRowError: it holds what no log writes.
    """
    try:
        return chain.proof("tombstone", "event", row.seq, row.digest, *facts)
    except (ValueError, TypeError, OverflowError) as error:
        raise BrokenRowError(f"it cannot be read: {error}") from error
