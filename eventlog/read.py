"""Read events back, along a lineage, in pages. The only module that selects events.

Pages instead of one long query: an open read transaction would keep SQLite from reusing its
WAL while a person looks at a long log.

Long, because every way to read goes through the same checks (``soundness.py``) and caches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from eventlog import errors, place
from eventlog.contents import Cache
from eventlog.digests import COLUMNS, PATH_DEPTH_MAX, Row, remember_paths
from eventlog.handle import Handle
from eventlog.ids import shown_id
from eventlog.lineage import SEQ_MAX, BaseMovedError, Lineages, Segment, as_stored
from eventlog.nesting import decode_payload
from eventlog.record import Event, ExecutionInfo, StoredEvent, read_ordinal
from eventlog.seal import EVENT, EXECUTION, NAME, PATH, CipherKey, cipher_key
from eventlog.storage import open_reader
from eventlog.texts import LOOKUPS_MAX, Texts, chunks
from eventlog.values import collect_refs, resolve

PAGE_EVENTS = 500
NAMES_MAX = 10_000

_EVENTS = f"SELECT {COLUMNS} FROM {{source}} WHERE {{where}} ORDER BY seq LIMIT ?"
_RETAINED = (
    "(SELECT e.* FROM retained AS k CROSS JOIN events AS e ON e.seq = k.seq"
    " WHERE k.branch = ? AND k.seq > ? AND k.seq <= ?)"
)
_NOT_COMPACTED = " AND seq > (SELECT base_seq FROM branches WHERE id = branch)"
_EXECUTIONS = (
    "SELECT path, parent, kind, name, key, status, inputs_hash, started_seq, ended_seq FROM executions"
    " WHERE branch = ? AND started_seq <= ? ORDER BY started_seq"
)
_GONE = (
    "SELECT base_seq FROM branches WHERE id = ?1 AND base_seq >= ?2"
    " AND NOT EXISTS (SELECT 1 FROM retained WHERE seq = ?2)"
)
_BELOW = (
    "path IN (WITH RECURSIVE below (id) AS (VALUES (?)"
    " UNION SELECT paths.id FROM below JOIN paths ON paths.parent = below.id) SELECT id FROM below)"
)
_NOWHERE = -1
"""Row of a path that no event has."""


class Reader(Lineages):
    """Reads one log through a connection that cannot write. Safe to use from several threads."""

    def __init__(self, path: Path, key: CipherKey | None = None) -> None:
        """Open the log. ``key``: what it is encrypted with; ``None`` means that of the environment.

        Raises:
            LogOpenError: it cannot be read as a log.
        """
        self.key = cipher_key(None, str(path)) if key is None else key
        super().__init__(Handle(path, open_reader(path, self.key)))
        self._texts = Texts(self.handle, self.soundness)
        self._names: Cache[int, tuple[str, str]] = Cache(NAMES_MAX)
        self._paths: Cache[int, str] = Cache(NAMES_MAX)
        self._ids: Cache[int, str] = Cache(NAMES_MAX)

    def has_moved(self) -> bool:
        """Whether the path leads to another file by now: then another reader must be opened."""
        return place.has_moved(self.handle.db)

    def successor(self) -> Reader:
        """Return a reader of the log that the path leads to by now.

        Raises:
            LogMovedError: the WAL of the former one is still beside it, so that nobody can tell what belongs to it.
            LogOpenError: it cannot be read as a log.
        """
        if not place.has_parted(self.handle.db):
            what = f"it was replaced while it was open, and {self.file}-wal still belongs to the former file"
            raise errors.LogMovedError(str(self.file), what)
        return Reader(self.file, self.key)

    def close(self) -> None:
        """Close the connection."""
        self.handle.close()

    def forget(self) -> None:
        """Read everything anew: rows were rewritten."""
        with self.handle.lock:
            self._names.clear()
            self._paths.clear()
            self._ids.clear()
            self._texts.forget()
            self.soundness.forget()

    def rewritten(self) -> int:
        """Return how often rows were collected or rewritten: what was read before another number may be gone."""
        rows = self.query("SELECT value FROM meta WHERE key = 'collections'")
        return int(rows[0][0]) if rows else 0

    # -- kickoffs -----------------------------------------------------------------------------------

    def executions(self, branch: int, to: int = SEQ_MAX) -> list[ExecutionInfo]:
        """Return the kickoffs of a lineage up to a seq in the order they first started.

        What an ancestor finished only after the fork is unfinished here; what went on here is as it is here.
        """
        found: dict[str, ExecutionInfo] = {}
        for owner, low, high in self.ancestry(branch, to):
            for row in self.query(_EXECUTIONS, (owner, high)) if high > low else ():
                info = self._execution(row, high)
                known = found.get(info.path)
                started = min(info.started_seq, known.started_seq) if known else info.started_seq
                found[info.path] = msgspec.structs.replace(info, started_seq=started)
        return sorted(found.values(), key=lambda info: info.started_seq)

    def _execution(self, row: Any, high: int) -> ExecutionInfo:
        """Return a row of the index as it stands at ``high``."""
        path, parent, kind, name, key, status, inputs, started, ended = row
        name, key, inputs = (
            self.seal.unseal_text(text, EXECUTION, field, started)
            for field, text in (("name", name), ("key", key), ("inputs", inputs))
        )
        if ended is not None and ended > high:
            status, ended = "running", None
        return ExecutionInfo(
            path=self.path(path), parent=self.path(parent) if parent else None, kind=kind, name=name, key=key,
            status=status, inputs_hash=inputs, started_seq=started, ended_seq=ended,
        )  # fmt: skip

    def root_labels(self, branch: int) -> dict[str, int]:
        """Return how often each label stands at the top of a lineage: its greatest ordinal."""
        found: dict[str, int] = {}
        for info in self.executions(branch):
            label, _, ordinal = info.path[1:].partition("/")[0].rpartition("#")
            found[label] = max(found.get(label, -1), read_ordinal(ordinal))
        return found

    # -- events ---------------------------------------------------------------------------------

    def stored(
        self,
        branch: int | None,
        after: int = 0,
        to: int = SEQ_MAX,
        types: Iterable[str] | None = None,
        below: str = "",
        kept: bool = False,
        whole: bool = False,
    ) -> Iterator[StoredEvent]:
        """Yield the events of a lineage (of the whole log: ``None``) after one seq up to another, in order.

        ``types`` may end in ``*``; ``below``: only events of the scope at that logical path and of those in it.
        ``kept``: also what compaction retained below the base. ``whole``: none may be missing, for who folds them.

        Raises:
            CompactedError: ``to``, or an ``after`` that is given, lies before the base.
            BaseMovedError: one is missing in what has to be ``whole``.
        """
        where, args = ("", ()) if types is None else _of_types(types)
        if below:
            where, args = f"{where} AND {_BELOW}", (*args, self.path_id(below))
        if branch is None:
            span = "seq > ? AND seq <= ?" + ("" if kept else _NOT_COMPACTED)
            yield from self._pages(span + where, (), after, to, args)
            return
        if kept:
            yield from self._retained(branch, after, to, where, args)
        segments, bases = self._stretches(branch, after, to, kept=kept, whole=whole)
        digest = None if where else self.soundness.before(branch, after)
        for owner, low, _ in segments[1:]:
            self.soundness.require_fork(owner, low)
        for owner, low, high in segments:
            span = "branch = ? AND seq > ? AND seq <= ?"
            for page in self._page_by_page(span + where, (owner,), max(low, after), high, args):
                if self._bases(segments) != bases:
                    raise self.compacted(branch, max(self._bases(segments)), BaseMovedError)
                if where:
                    self.soundness.require_events(page)
                else:
                    digest = self.soundness.require_chain(owner, page, digest)
                yield from self._as_events(page)

    def _stretches(
        self, branch: int, after: int, to: int, *, kept: bool, whole: bool
    ) -> tuple[list[Segment], list[int]]:
        """Return the stretches of a lineage to read and where their branches begin, both of one moment."""
        segments = self._from(branch, after, to, kept=kept, whole=whole)
        while True:
            bases, known = self._bases(segments), segments
            segments = self._from(branch, after, to, kept=kept, whole=whole)
            if segments == known:
                return segments, bases

    def _from(self, branch: int, after: int, to: int, *, kept: bool, whole: bool) -> list[Segment]:
        """Return the stretches of a lineage to read; none where only retained events are asked for."""
        try:
            segments = self.lineage(branch, to)
        except errors.CompactedError:
            if kept:
                return []
            raise
        if not kept and (whole or after > 0) and after < (base := self.base_of(segments)):
            raise self.compacted(branch, base, BaseMovedError if whole else errors.CompactedError)
        return segments

    def _bases(self, segments: list[Segment]) -> list[int]:
        """Return where the branches of a lineage begin now: it moves when one is compacted."""
        marks = ",".join("?" * len(segments))
        sql = f"SELECT base_seq FROM branches WHERE id IN ({marks}) ORDER BY id"
        return [int(row[0]) for row in self.query(sql, [owner for owner, _, _ in segments])]

    def _retained(self, branch: int, after: int, to: int, where: str, args: tuple[Any, ...]) -> Iterator[StoredEvent]:
        """Yield what compaction retained for a lineage."""
        base = self.stored_base(branch)
        if base is not None:
            for page in self._page_by_page("1" + where, (base.branch,), after, min(to, base.seq), args, _RETAINED):
                if self._bases([(base.branch, 0, 0)]) != [base.seq]:
                    raise self.compacted(branch, base.seq, BaseMovedError)
                self.soundness.require_events(page)
                yield from self._as_events(page)

    def _pages(
        self, where: str, owner: tuple[int, ...], after: int, to: int, more: tuple[Any, ...]
    ) -> Iterator[StoredEvent]:
        """Yield events, read page by page."""
        for page in self._page_by_page(where, owner, after, to, more):
            self.soundness.require_events(page)
            yield from self._as_events(page)

    def _page_by_page(
        self, where: str, owner: tuple[int, ...], after: int, to: int, more: tuple[Any, ...], source: str = "events"
    ) -> Iterator[list[Row]]:
        """Yield pages of rows, the last one empty unless it reaches ``to``."""
        sql = _EVENTS.format(where=where, source=source)
        while after < to:
            rows = [Row._make(row) for row in self.query(sql, (*owner, after, to, *more, PAGE_EVENTS))]
            yield rows
            if not rows:
                return
            after = rows[-1].seq

    def _as_events(self, rows: list[Row]) -> list[StoredEvent]:
        """Return rows as events."""
        self._load_links(rows)
        return [self._stored(row) for row in rows]

    def runs_with(self, types: Iterable[str]) -> list[str]:
        """Return the runs that hold an event of one of these types, in the order they were made."""
        where, args = _of_types(types)
        sql = f"SELECT DISTINCT branch FROM events WHERE run > 0{where} ORDER BY run"
        return list(dict.fromkeys(str(self.branch_name(row)[0]) for (row,) in self.query(sql, args)))

    def at(self, seq: int) -> StoredEvent | None:
        """Return the event at a seq, also one that compaction retained."""
        return next(self._pages("seq > ? AND seq <= ?", (), seq - 1, seq, ()), None)

    def events(
        self,
        branch: int | None,
        after: int = 0,
        to: int = SEQ_MAX,
        types: Iterable[str] | None = None,
    ) -> Iterator[Event]:
        """Yield events with their payloads decoded and every reference resolved."""
        batch: list[StoredEvent] = []
        for event in self.stored(branch, after, to, types):
            batch.append(event)
            if len(batch) >= 50:
                yield from self.decoded(batch)
                batch = []
        yield from self.decoded(batch)

    def decoded(self, batch: Sequence[StoredEvent]) -> Iterator[Event]:
        """Yield events for the reader; the contents of the whole batch are fetched together."""
        trees = [decode_payload(event.payload) for event in batch]
        self._texts.load(set().union(*(collect_refs(tree) for tree in trees)))
        for event, tree in zip(batch, trees, strict=True):
            facts = {name: getattr(event, name) for name in event.__struct_fields__}
            try:
                yield Event(**{**facts, "payload": resolve(tree, self._stored_content)})
            except errors.LogDamagedError:
                self._require_still_there(event)
                raise

    def _require_still_there(self, event: StoredEvent) -> None:
        """Return if an event has not been compacted since it was read: then its contents may be gone.

        Raises:
            BaseMovedError: it has.
        """
        branch = self.branch_id(event.run, event.branch) if event.run else 0
        rows = self.query(_GONE, (branch, event.seq))
        if rows:
            raise self.compacted(branch, rows[0][0], BaseMovedError)

    def _stored(self, row: Row) -> StoredEvent:
        """Return one row as an event."""
        run, branch_name = self.branch_name(row.branch)
        event_id = shown_id(row.event_id)
        self._ids.put(row.seq, event_id)
        task_id, task_name = self.name(row.task) if row.task is not None else (None, None)
        agent_id, agent_role = self.name(row.agent) if row.agent is not None else (None, None)
        return StoredEvent(
            seq=row.seq, event_id=event_id, type=self.name(row.type)[0], at_ns=row.at_ns, run=run, branch=branch_name,
            parent_event_id=self._link(row.parent), previous_event_id=self._link(row.previous),
            triggered_by_event_id=self._link(row.triggered), started_event_id=self._link(row.started),
            emission_sequence=row.emission, task_id=task_id, task_name=task_name or None,
            agent_id=agent_id, agent_role=agent_role or None, path=self.path(row.path), flags=row.flags,
            payload=self.seal.unseal(row.payload.encode(), EVENT, row.seq),
        )  # fmt: skip

    def _link(self, link: Any) -> str | None:
        """Return the event id a link means; a compacted event has none any more."""
        return self._ids.get(link) if isinstance(link, int) else shown_id(link)

    def _load_links(self, rows: list[Row]) -> None:
        """Fetch the ids of linked events that are not on this page."""
        for row in rows:
            self._ids.put(row.seq, shown_id(row.event_id))
        links = {link for row in rows for link in (row.parent, row.previous, row.triggered, row.started)}
        wanted = [link for link in links if isinstance(link, int) and self._ids.get(link) is None]
        for chunk in chunks(sorted(wanted), LOOKUPS_MAX):
            marks = ",".join("?" * len(chunk))
            for seq, event_id in self.query(f"SELECT seq, event_id FROM events WHERE seq IN ({marks})", chunk):
                self._ids.put(seq, shown_id(event_id))

    def name(self, row: int) -> tuple[str, str]:
        """Return an interned name and its label."""
        known = self._names.get(row)
        if known is None:
            rows = self.query("SELECT name, label, kind FROM names WHERE id = ?", (row,))
            name, label, kind = rows[0] if rows else ("?", "", "type")
            known = (name, label if kind == "type" else self.seal.unseal_text(label, NAME))
            self._names.put(row, known)
        return known

    def path(self, row: int) -> str:
        """Return a logical path as text."""
        known = self._paths.get(row) if row else ""
        return self._walk_up(row) if known is None else known

    def _walk_up(self, row: int) -> str:
        """Return a path that is not in memory: from the nearest one above it that is."""
        below: list[tuple[int, str]] = []
        above = None
        current = row
        while current and above is None and len(below) < PATH_DEPTH_MAX:
            rows = self.query("SELECT parent, label FROM paths WHERE id = ?", (current,))
            if not rows:
                break
            below.append((current, self.seal.unseal_text(rows[0][1], PATH)))
            current = rows[0][0]
            above = self._paths.get(current)
        return remember_paths(self._paths, above or "", below)

    def path_id(self, path: str) -> int:
        """Return the row of a logical path; one that no event has when there is none."""
        row = 0
        for label in path.split("/")[1:]:
            stored = self.seal.seal_name(label, PATH)
            rows = self.query("SELECT id FROM paths WHERE parent = ? AND label = ?", (row, stored))
            if not rows:
                return _NOWHERE
            row = rows[0][0]
        return row

    # -- contents ---------------------------------------------------------------------------------

    def content(self, name: str) -> Any:
        """Return what a content holds: a text, a JSON tree, or the messages of a conversation.

        Raises:
            KeyError: it is not there, or it can be no such thing.
            LogDamagedError: it is not what was recorded.
        """
        return self._texts.content(name)

    def _stored_content(self, name: str) -> Any:
        """Return a content that must be there, for whoever is not to see what only names it.

        Raises:
            LogDamagedError: it is not.
        """
        try:
            return self._texts.content(name)
        except KeyError:
            raise self.damaged(f"content {name} is missing") from None

    # -- cursors ------------------------------------------------------------------------------------

    def events_with_prefix(self, prefix: str, run: int | None = None) -> list[tuple[int, int]]:
        """Return (seq, branch) of events whose id begins with ``prefix``, at most ten."""
        runs = [run] if run is not None else [r[0] for r in self.query("SELECT id FROM runs")]
        found: list[tuple[int, int]] = []
        for row in runs:
            for low, high in _id_ranges(as_stored(prefix)):
                sql = "SELECT seq, branch FROM events WHERE run = ? AND event_id >= ? AND event_id < ? LIMIT 10"
                found += [(int(s), int(b)) for s, b in self.query(sql, (row, low, high))]
        return found[:10]

    def seq_at_time(self, branch: int, at_ns: int) -> int:
        """Return the greatest seq of a lineage that was emitted no later than ``at_ns``; 0 when there is none.

        Raises:
            CompactedError: the time lies before the base.
        """
        segments = self.lineage(branch)
        for owner, low, high in reversed(segments):
            sql = "SELECT max(seq) FROM events WHERE branch = ? AND seq > ? AND seq <= ? AND at_ns <= ?"
            rows = self.query(sql, (owner, low, high, at_ns))
            if rows[0][0] is not None:
                return int(rows[0][0])
        base = self.base_of(segments)
        if base and not self.query("SELECT 1 FROM events WHERE seq = ? AND at_ns <= ?", (base, at_ns)):
            raise self.compacted(branch, base)
        return base

    def last_seq(self, until_ns: int | None = None) -> int:
        """Return the greatest seq of the whole log, or of what was emitted no later than ``until_ns``; 0: none."""
        where, args = ("", ()) if until_ns is None else (" WHERE at_ns <= ?", (until_ns,))
        return int(self.query(f"SELECT coalesce(max(seq), 0) FROM events{where}", args)[0][0])

    def where_is(self, seq: int) -> int | None:
        """Return the branch of an event."""
        rows = self.query("SELECT branch FROM events WHERE seq = ?", (seq,))
        return int(rows[0][0]) if rows else None


def _of_types(types: Iterable[str]) -> tuple[str, tuple[Any, ...]]:
    """Return a condition on the type of an event, and its arguments.

    Names are looked up by the statement itself: a type that is new between two statements must not be missed while
    later events are seen.
    """
    names = list(types)
    exact, globs = [as_stored(n) for n in names if "*" not in n], [_glob(n) for n in names if "*" in n]
    is_one = " OR ".join([f"name IN ({','.join('?' * len(exact))})", *["name GLOB ?"] * len(globs)])
    return f" AND type IN (SELECT id FROM names WHERE kind = 'type' AND ({is_one}))", (*exact, *globs)


def _glob(name: str) -> str:
    """Return a GLOB for a type name in which only ``*`` is special."""
    return "".join(f"[{c}]" if c in "[?" else c for c in as_stored(name))


def _id_ranges(prefix: str) -> list[tuple[Any, Any]]:
    """Return the ranges of stored ids that a prefix covers: as UUID bytes, and as text."""
    ranges: list[tuple[Any, Any]] = [(prefix, prefix + "\U0010ffff")]
    digits = prefix.replace("-", "").lower()
    if 0 < len(digits) <= 32 and all(c in "0123456789abcdef" for c in digits):
        ranges.append((bytes.fromhex(digits.ljust(32, "0")), bytes.fromhex(digits.ljust(32, "f")) + b"\0"))
    return ranges
