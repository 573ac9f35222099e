"""Stored states: that they can be read, and (``deep``) that the events tell the same."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from eventlog.errors import EventLogError
from eventlog.lineage import steadily
from eventlog.nesting import decode_payload
from eventlog.read import Reader
from eventlog.replay.fold import FOLD_VERSION, apply_event, begin_fold
from eventlog.replay.rebuild import STATE_PROJECTION
from eventlog.replay.state import RunState
from eventlog.seal import SNAPSHOT
from eventlog.values import collect_refs
from eventlog.verifying.contents import ContentCheck
from eventlog.verifying.subject import Branch, Subject

ROWS_AT_ONCE = 20
"""A state may be large."""
_COLUMNS = "id, seq, kind, projection, version, state, proof"
_DIGEST = "SELECT digest FROM events WHERE seq = ?"
READABLE = "all events; without the snapshot the state is folded from them"


class SnapshotCheck:
    """Checks the snapshots of branches."""

    def __init__(self, subject: Subject, contents: ContentCheck, reader: Reader | None) -> None:
        """``reader``: folds the events again; none: the states are only read."""
        self._subject, self._contents, self._reader = subject, contents, reader
        self.count = 0

    def check_branch(self, branch: Branch) -> None:
        """Check the snapshots of one branch."""
        wanted: list[tuple[int, int]] = []
        for row in self._subject.rows(_COLUMNS, f"snapshots WHERE branch = {branch.row}", "id", ROWS_AT_ONCE):
            self.count += 1
            _id, seq, _, projection, version, state, _ = row
            problem = self._problem(branch, *row[1:])
            if problem:
                self._wrong(branch, seq, problem)
            elif state and projection == STATE_PROJECTION and version == FOLD_VERSION:
                wanted.append((seq, _id))
        self._contents.settle()
        if self._reader is not None and wanted:
            self._refold(branch, sorted(wanted), self._reader)

    def _problem(
        self, branch: Branch, seq: Any, kind: Any, projection: Any, version: Any, state: Any, proof: Any
    ) -> str:
        """Return what is wrong with one snapshot by itself."""
        if kind not in ("checkpoint", "cache"):
            return f"it is of no kind we know: {kind!r}"
        if not isinstance(seq, int) or seq < 0 or not (seq <= branch.base or self._subject.has_come_to(seq)):
            return f"it stands at seq {seq!r}, which no event has"
        if not state:
            return ""
        if proof is not None and not self._is_proven(branch, seq, projection, version, state, proof):
            return "it is not what was stored"
        try:
            data = self._subject.opened(state, SNAPSHOT, projection, seq)
            if data is None:
                return ""
            tree = decode_payload(data)
        except (EventLogError, AttributeError) as error:
            return str(error)
        self._contents.want(collect_refs(tree), seq, self._subject.place(branch.row))
        is_ours = projection == STATE_PROJECTION and version == FOLD_VERSION
        if is_ours and (not isinstance(tree, dict) or tree.get("cursor") != seq):
            return f"it holds another state than the one at seq {seq}"
        return ""

    def _is_proven(self, branch: Branch, seq: int, *stored: Any) -> bool:
        """Whether a state is the one that was stored after the event at that seq."""
        *facts, proof = stored
        chain = self._subject.chain
        try:
            row = self._subject.db.execute(_DIGEST, (seq,)).fetchone()
        except sqlite3.Error:
            return True  # of the event that cannot be read others tell
        if chain is None or (row is None and seq <= branch.base):
            return True
        return row is not None and isinstance(row[0], bytes) and chain.snapshot_proof(row[0], seq, *facts) == proof

    def _refold(self, branch: Branch, wanted: list[tuple[int, int]], reader: Reader) -> None:
        """Fold the lineage once and compare the states on the way."""
        try:
            for seq, problem in steadily(lambda: list(self._differences(branch, list(wanted), reader))):
                self._wrong(branch, seq, problem)
        except (EventLogError, msgspec.MsgspecError, TypeError, ValueError) as error:
            if self._subject.findings.ok:
                self._wrong(branch, wanted[0][0], f"it cannot be compared: {error}")
            else:
                self._subject.findings.note(f"stored states of {self._subject.place(branch.row)} were not compared")

    def _differences(self, branch: Branch, wanted: list[tuple[int, int]], reader: Reader) -> list[tuple[int, str]]:
        """Return where the events tell another state."""
        base = reader.base(branch.row)
        start = msgspec.json.decode(base.state, type=RunState) if base is not None else None
        work = begin_fold(start, run=str(self._subject.runs.get(branch.run)), branch=str(branch.name))
        found: list[tuple[int, str]] = []
        for event in reader.stored(branch.row, after=work.state.cursor, to=wanted[-1][0], whole=True):
            while wanted and wanted[0][0] < event.seq:
                found += self._compared(work.result(), *wanted.pop(0))
            apply_event(work, event)
            self._subject.on_step()
        for place in wanted:
            found += self._compared(work.result(), *place)
        return found

    def _compared(self, folded: RunState, seq: int, row: int) -> list[tuple[int, str]]:
        """Return whether a stored state differs from the folded one."""
        text = self._subject.db.execute("SELECT state FROM snapshots WHERE id = ?", (row,)).fetchone()
        if text is None:
            return []  # pruned meanwhile
        data = self._subject.opened(text[0], SNAPSHOT, STATE_PROJECTION, seq) or b""
        same = folded.cursor == seq and msgspec.json.decode(data, type=RunState) == folded
        return [] if same else [(seq, "the events tell another state")]

    def _wrong(self, branch: Branch, seq: Any, what: str) -> None:
        """Take down what is wrong with a snapshot."""
        place = self._subject.place(branch.row)
        at = seq if isinstance(seq, int) else None
        self._subject.findings.add("snapshot", f"a snapshot: {what}", seq=at, place=place, readable=READABLE)
