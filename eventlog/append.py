"""Write events: one transaction, all or nothing, in order. The only module that inserts events.

Long, as one class: all of it shares the caches that a transaction which is rolled back has to forget.
"""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from eventlog.branching import base_of, find_branch, last_event, make_branch, override_execution
from eventlog.chain import Chain
from eventlog.chain_key import require_key
from eventlog.contents import Cache, NewContent
from eventlog.errors import (
    AppendError,
    BranchExistsError,
    BranchNotFoundError,
    CompactedError,
    LogDamagedError,
    SequenceConflictError,
)
from eventlog.ids import stored_id
from eventlog.lease import Lease, Leases
from eventlog.owner import this_process
from eventlog.place import Connection
from eventlog.record import MAIN_BRANCH, NewEvent, NewExecution, join_path
from eventlog.seal import CONTENT, EVENT, EXECUTION, NAME, PATH, SNAPSHOT, seal_of
from eventlog.transactions import transaction

NAMES_MAX, PATHS_MAX, LINKS_MAX = 5_000, 5_000, 5_000

INSERT_EVENT = (
    "INSERT INTO events (seq, branch, run, event_id, type, at_ns, parent, previous, triggered, started,"
    " emission, task, agent, path, flags, payload, digest) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
INSERT_CONTENT = (
    "INSERT INTO contents (hash, kind, parent, text, body) VALUES (?, ?,"
    " (SELECT id FROM contents WHERE hash = ?), (SELECT id FROM contents WHERE hash = ?), ?)"
    " ON CONFLICT (hash) DO NOTHING"
)
_LAST_SEQ = "SELECT max(value, coalesce((SELECT max(seq) FROM events), 0)) FROM meta WHERE key = 'last_seq'"
_OPEN_EXECUTION = (
    "INSERT INTO executions (branch, path, parent, kind, name, key, inputs_hash, status, started_seq)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, 'running', ?)"
    " ON CONFLICT (branch, path) DO UPDATE SET status = 'running', ended_seq = NULL"
)
_INSERT_SNAPSHOT = (
    "INSERT INTO snapshots (branch, seq, kind, projection, version, trigger, created_ns, state, proof)"
    " VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT (branch, projection, seq, kind) DO UPDATE"
    " SET version = excluded.version, state = excluded.state, proof = excluded.proof WHERE excluded.state <> ''"
)
_CLOSE_EXECUTION = "UPDATE executions SET status = ?, ended_seq = ? WHERE branch = ? AND path = ?"


def _texts_of(new: NewExecution) -> dict[str, str]:
    """Return what of the index of kickoffs tells something about prompts."""
    return {"name": new.name, "key": new.key, "inputs": new.inputs_hash}


class Appender:
    """Appends through one connection; the caller lets one thread at a time in."""

    def __init__(self, db: Connection, chain: Chain = Chain()) -> None:  # noqa: B008 - immutable
        """``db`` comes from ``storage.open_writer`` and belongs to this object from now on."""
        self.db = db
        self.chain = chain
        self.seal = seal_of(db)
        self.owner = msgspec.json.encode(this_process()).decode()
        self.leases = Leases(db, self.owner)
        self._version = -1
        self._names: Cache[tuple[str, str, str], int] = Cache(NAMES_MAX)
        self._paths: Cache[tuple[str, ...], int] = Cache(PATHS_MAX)
        self._sealed: Cache[tuple[str, str], str] = Cache(PATHS_MAX)
        self._links: Cache[tuple[int, str], int] = Cache(LINKS_MAX)
        self._branches: Cache[tuple[str, str], tuple[int, int]] = Cache(NAMES_MAX)
        self.on_collected: Callable[[], int] = lambda: 0
        """Called when contents were collected; forgets which are stored, and returns the epoch that begins."""
        self._collections: int | None = None
        self._collected = 0
        """What was known of contents before this epoch may not hold any more."""
        self._last_seq = self._seen_seq = 0
        self._digests: dict[int, bytes] = {}

    def write(self, events: Sequence[NewEvent], expected_seq: int | None = None) -> list[int]:
        """Return the seqs of the events, committed. An event id the run already has keeps its seq.

        Raises:
            SequenceConflictError: the branch of the first event is not at ``expected_seq``; nothing was written.
            sqlite3.Error: nothing was written.
        """
        try:
            with transaction(self.db):
                self._catch_up()
                if expected_seq is not None and not self._is_stored(events[0]):
                    self._expect(events[0], expected_seq)
                return [self._insert(event) for event in events]
        except BaseException:
            self.forget()
            raise

    def write_all(self, events: Iterable[NewEvent]) -> int:
        """Append events while they are made, in one transaction however many; returns how many were new.

        Raises:
            sqlite3.Error, and whatever ``events`` raises: nothing was written.
        """
        try:
            with transaction(self.db):
                self._catch_up()
                before = self._last_seq
                for event in events:
                    self._insert(event)
                return self._last_seq - before
        except BaseException:
            self.forget()
            raise

    def salt(self) -> bytes:
        """Return the salt for hashes of what must not be on disk itself."""
        row = self.db.execute("SELECT value FROM meta WHERE key = 'salt'").fetchone()
        return str(row[0]).encode() if row else b"eventlog"

    def forget(self) -> None:
        """Drop what a rolled-back transaction taught."""
        self._version = -1
        self._names.clear()
        self._paths.clear()
        self._links.clear()
        self._branches.clear()

    def _catch_up(self) -> None:
        """Read the heads anew if another connection wrote since; it may have taken over a branch of ours."""
        if self._version != -1:
            self._seen_seq = self._last_seq  # committed: a rollback forgets the version
        version = self.db.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version:
            self.leases.verify(self._seen_seq)
            if not self._last_seq:  # until there are events, another process may give the log a key
                require_key(self.db, self.chain)
            self._last_seq = self.db.execute(_LAST_SEQ).fetchone()[0]
            self._digests.clear()
            self._notice_collections()
            self._version = version

    def _notice_collections(self) -> None:
        """Trust no earlier knowledge of contents and names if another process has collected some."""
        row = self.db.execute("SELECT value FROM meta WHERE key = 'collections'").fetchone()
        count = row[0] if row else 0
        if self._collections is not None and count != self._collections:
            self.forget_collected()
        self._collections = count

    def begin_collection(self) -> None:
        """Say in the transaction under way that contents are being collected; no process takes any for stored."""
        self.db.execute("INSERT INTO meta VALUES ('collections', 1) ON CONFLICT DO UPDATE SET value = value + 1")
        self.forget_collected()

    def forget_collected(self) -> None:
        """Take nothing for stored that was before."""
        self._collected = self.on_collected()
        self._names.clear()
        self._paths.clear()

    def _is_stored(self, event: NewEvent) -> bool:
        """Whether the run has the event already: its writer was interrupted after the commit, or tries again."""
        sql = "SELECT 1 FROM events WHERE run = ? AND event_id = ?"
        found = self.db.execute(sql, (self._branch_ids(event)[0], stored_id(event.event_id))).fetchone()
        return found is not None

    def _expect(self, event: NewEvent, expected: int) -> None:
        """Check a writer's idea of its branch."""
        actual, _ = last_event(self.db, self._branch_ids(event)[1])
        if actual != expected:
            raise SequenceConflictError(f"{event.run}/{event.branch}".lstrip("/"), expected, actual)

    def _insert(self, event: NewEvent) -> int:
        """Store one event with its contents and return its seq."""
        return self._insert_at(*self._branch_ids(event), event)

    def _insert_at(self, run: int, branch: int, event: NewEvent) -> int:
        """Store one event on a branch, whatever branch it names."""
        self.store_contents(event.contents)
        seq = self._last_seq + 1
        row = self._row(seq, run, branch, event)
        try:
            self.db.execute(INSERT_EVENT, row)
        except sqlite3.IntegrityError as error:
            return self._existing(run, event, error)
        self._last_seq = seq
        self._digests[branch] = row[-1]
        self._links.put((run, event.event_id), seq)
        self._index(seq, branch, row[13], event)
        return seq

    def store_contents(self, contents: Iterable[Any]) -> None:
        """Store what an encoding brings, and what it took for stored if that was collected since."""
        for content in contents:
            if type(content) is NewContent:
                self._store(content)
            elif content.epoch < self._collected:
                for known in content.bodies():
                    self._store(known)

    def _store(self, content: NewContent) -> None:
        """Store a content unless it is there."""
        body = self.seal.seal_text(content.body, CONTENT, content.hash)
        self.db.execute(INSERT_CONTENT, (content.hash, content.kind, content.parent, content.text, body))

    def _row(self, seq: int, run: int, branch: int, event: NewEvent) -> tuple[Any, ...]:
        """Return the columns of an event, digest last."""
        event_id, link = stored_id(event.event_id), self._link
        links = (
            link(run, event.parent_event_id), link(run, event.previous_event_id),
            link(run, event.triggered_by_event_id), link(run, event.started_event_id),
        )  # fmt: skip
        task, agent, labels = event.task, event.agent, event.path
        if self.seal:
            task, agent = self._stored_name(task), self._stored_name(agent)
            labels = tuple(self._stored(label, PATH) for label in labels)
        facts = (event_id, event.type, event.at_ns, *links, event.emission_sequence, task, agent)
        path, flags, payload = self.path_id(event.path), event.flags, self.seal.seal(event.payload, EVENT, seq)
        digest = self.chain.digest(self._digest(branch), seq, facts, join_path(labels), flags, payload)
        return (
            seq, branch, run, event_id, self.name_id("type", event.type, event.type_class), event.at_ns,
            *links, event.emission_sequence,
            self.name_id("task", *task) if task else None,
            self.name_id("agent", *agent) if agent else None,
            path, flags, payload.decode(), digest,
        )  # fmt: skip

    def _stored_name(self, name: tuple[str, str] | None) -> tuple[str, str] | None:
        """Return a task or agent as its row has it: the id in clear, the name or role sealed."""
        return None if name is None else (name[0], self._stored(name[1] or "", NAME))

    def _stored(self, text: str, place: str) -> str:
        """Return a name or label as its row has it."""
        known = self._sealed.get((text, place))
        if known is None:
            known = self.seal.seal_name(text, place)
            self._sealed.put((text, place), known)
        return known

    def _link(self, run: int, event_id: str | None) -> Any:
        """Return the seq of a recent event, or the id itself."""
        if event_id is None:
            return None
        return self._links.get((run, event_id)) or stored_id(event_id)

    def _existing(self, run: int, event: NewEvent, error: sqlite3.IntegrityError) -> int:
        """Return the seq of the event that is already there: appending twice is appending once."""
        found = self.db.execute(
            "SELECT seq FROM events WHERE run = ? AND event_id = ?", (run, stored_id(event.event_id))
        ).fetchone()
        if found is None:
            raise AppendError(str(error)) from error
        return int(found[0])

    def _digest(self, branch: int) -> bytes:
        """Return the digest the next event of a branch chains to; without events it continues its parent's chain."""
        known = self._digests.get(branch)
        if known is None:
            known = self._digests[branch] = last_event(self.db, branch)[1]
        return known

    def name_id(self, kind: str, name: str, label: str) -> int:
        """Return the row of an interned name."""
        key = (kind, name, label or "")
        found = self._names.get(key)
        if found is None:
            self.db.execute("INSERT INTO names (kind, name, label) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", key)
            row = self.db.execute("SELECT id FROM names WHERE kind = ? AND name = ? AND label = ?", key).fetchone()
            found = int(row[0])
            self._names.put(key, found)
        return found

    def path_id(self, path: tuple[str, ...]) -> int:
        """Return the row of a path; 0 is the root."""
        if not path:
            return 0
        found = self._paths.get(path)
        if found is None:
            found = self.path_below(self.path_id(path[:-1]), self._stored(path[-1], PATH))
            self._paths.put(path, found)
        return found

    def path_below(self, parent: int, label: str) -> int:
        """Return the row of the path ``label`` in the path of row ``parent``."""
        key = (parent, label)
        self.db.execute("INSERT INTO paths (parent, label) VALUES (?, ?) ON CONFLICT DO NOTHING", key)
        return int(self.db.execute("SELECT id FROM paths WHERE parent = ? AND label = ?", key).fetchone()[0])

    def _index(self, seq: int, branch: int, path: int, event: NewEvent) -> None:
        """Keep the index of kickoffs, and who has the branch open, in step with the events."""
        if (new := event.opens) is not None:
            parent = self.path_id(new.parent) if new.parent else None
            texts = [self.seal.seal_text(v, EXECUTION, k, seq) for k, v in _texts_of(new).items()]
            self.db.execute(_OPEN_EXECUTION, (branch, path, parent, new.kind, *texts, seq))
        if event.closes is not None:
            closed, status = event.closes
            place = self.path_id(closed)
            if not self.db.execute(_CLOSE_EXECUTION, (status, seq, branch, place)).rowcount:
                override_execution(self.db, branch, place, status, seq)
        if event.releases:
            self.leases.release(branch)

    # -- runs and branches ------------------------------------------------------------------

    def _branch_ids(self, event: NewEvent) -> tuple[int, int]:
        """Return the rows of an event's run and branch; a new run is made, a new branch only by forking."""
        if not event.run:
            return 0, 0
        branch = self.leases.branch_for(event.run, event.branch)
        known = self._branches.get((event.run, branch))
        if known is None:
            known = self._make_run(event.run, event.branch, event.attribution)
            if branch != event.branch:
                known = known[0], self._make_stale(*known, event, branch)
            self._branches.put((event.run, branch), known)
        return known

    def _make_stale(self, run: int, branch: int, event: NewEvent, name: str) -> int:
        """Return the row of the branch for what is recorded after another process took the meant one over."""
        seen = last_event(self.db, branch, self.leases.seen_seq(event.run, event.branch))[0]
        return make_branch(self.db, run, name, branch, max(seen, base_of(self.db, branch)))

    def _make_run(self, run: str, branch: str, attribution: str) -> tuple[int, int]:
        """Return the rows of a run and its branch, making what a first event may make."""
        now = time.time_ns()
        sql = "INSERT INTO runs (name, created_ns, attribution) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        is_new = self.db.execute(sql, (run, now, attribution)).rowcount > 0
        row = int(self.db.execute("SELECT id FROM runs WHERE name = ?", (run,)).fetchone()[0])
        owner = self.owner if attribution != "named" else None  # whoever mints a run has it open
        sql = "INSERT INTO branches (run, name, created_ns, owner) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
        if not self.db.execute(sql, (row, MAIN_BRANCH, now, owner)).rowcount and is_new:
            raise LogDamagedError(self.db.path, f"row {row} of runs was free, and has branches")
        found = find_branch(self.db, row, branch)
        if found is None:
            raise BranchNotFoundError(f"{run}/{branch}")
        return row, found

    def fork(
        self, run: str, parent: str, seq: int, name: str | None, edit: NewEvent | None, reopened: list[tuple[str, ...]]
    ) -> str:
        """Make a branch of ``parent`` at ``seq``, with the event of its edits; returns its name, minted without one.

        ``reopened``: paths of executions that had ended and are unfinished on the fork.

        Raises:
            BranchExistsError: the run has one of that name. Nothing was written.
            CompactedError: the cursor was compacted meanwhile. Nothing was written.
        """
        try:
            with transaction(self.db):
                self._catch_up()
                row, parent_row = self._make_run(run, parent, "named")
                made = name or self._free_name(row)
                if find_branch(self.db, row, made) is not None:
                    raise BranchExistsError(run, made)
                if seq < (oldest := base_of(self.db, parent_row)):
                    raise CompactedError(run, parent, oldest)
                branch = make_branch(self.db, row, made, parent_row, seq)
                if edit is not None:
                    self._insert_at(row, branch, edit)
                self.reopen(branch, reopened)
        except BaseException:
            self.forget()
            raise
        return made

    def reopen(self, branch: int, paths: Iterable[tuple[str, ...]]) -> None:
        """Say on a branch that executions that had ended on its parent are unfinished; part of a transaction."""
        for path in paths:
            override_execution(self.db, branch, self.path_id(path), "running", None)

    def _free_name(self, run: int) -> str:
        """Return the first of ``fork-1``, ``fork-2``… that a run has not."""
        numbers = itertools.count(self.db.execute("SELECT count(*) FROM branches WHERE run = ?", (run,)).fetchone()[0])
        return next(name for n in numbers if find_branch(self.db, run, name := f"fork-{n}") is None)

    def open_run(self, run: str, branch: str) -> None:
        """Make the run if it is new, and say that this process has the branch open.

        Raises:
            BranchNotFoundError: it has no such branch.
        """
        with transaction(self.db):
            self.leases.adopt(self._make_run(run, branch, "named")[1])

    def release_run(self, run: str, branch: str) -> None:
        """Say that this process no longer has the branch of the run open."""
        sql = "SELECT b.id FROM branches AS b JOIN runs AS r ON r.id = b.run WHERE r.name = ? AND b.name = ?"
        with transaction(self.db):
            for (row,) in self.db.execute(sql, (run, branch)).fetchall():
                self.leases.release(row)

    def take_lease(self, run: str, branch: str, *, takeover: bool) -> Lease:
        """Return the lease of a branch; a run that is new is made. Taken twice in a process, it is one.

        Raises:
            RunBusyError: another process has it.
            BranchNotFoundError: the run has no such branch.
        """
        with transaction(self.db):
            self._catch_up()
            _, row = self._make_run(run, branch, "named")
            lease = self.leases.take(run, branch, row, takeover=takeover)
        return self.leases.hold(lease)

    def renew_leases(self) -> int:
        """Extend the leases in use, give back the others; returns how many are held."""
        if not self.leases:
            return 0
        with transaction(self.db):
            self._catch_up()
            unused = self.leases.renew()
        self.leases.drop(unused)
        return len(self.leases)

    def go_on_from(self, former: Appender) -> None:
        """Hold here what was held in a file that its path leads to no more, and take no content for stored."""
        self.forget_collected()
        with transaction(self.db):
            for lease in former.leases.held():
                try:
                    row = self._make_run(lease.run, lease.branch, "named")[1]
                except BranchNotFoundError:
                    row = None
                self.leases.move_here(lease, row)
        self.leases.follow(former.leases)

    def write_snapshot(self, row: tuple[Any, ...], is_current: Callable[[], bool] = lambda: True) -> None:
        """Store a snapshot: branch, seq, kind, projection, version, trigger, created_ns, state; none below a base.

        ``is_current``: whether its state is still what the events tell, once we know what other processes did.
        """
        row = (*row[:-1], self.seal.seal_text(row[-1], SNAPSHOT, row[3], row[1]))
        try:
            with transaction(self.db):
                self._catch_up()
                if is_current() and row[1] >= base_of(self.db, row[0]):
                    self.db.execute(_INSERT_SNAPSHOT, (*row, self._snapshot_proof(row)))
        except BaseException:
            self.forget()
            raise

    def _snapshot_proof(self, row: tuple[Any, ...]) -> bytes | None:
        """Return the proof of a snapshot; a mark without a state has none."""
        branch, seq, _, projection, version, *_, state = row
        if not state:
            return None
        return self.chain.snapshot_proof(last_event(self.db, branch, seq)[1], seq, projection, version, state)
