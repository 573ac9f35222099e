"""What a re-execution is compared with, and answered from: the record of one execution."""

from __future__ import annotations

from typing import Any

import msgspec

from eventlog.errors import CompactedError
from eventlog.lineage import SEQ_MAX
from eventlog.read import Reader
from eventlog.record import FLAG_REPLAYED, RESUMED, ExecutionInfo, StoredEvent
from eventlog.replay.path import split_task_place
from eventlog.resume.edits import Edits
from eventlog.resume.history import (
    Events,
    busy_tools,
    drop_given_up,
    outside_of_answers,
    stretches,
    told_once,
)
from eventlog.resume.tape import Tape
from eventlog.resume.taping import read_tape

ENDS = ("completed", "failed")
"""Fields of an exchange that name the event at its end."""


class Recorded(msgspec.Struct):
    """One recorded execution."""

    tape: Tape
    parts: list[Events]
    """Its events, one list for each process that worked on it."""
    busy: set[str]
    """Uses of tools that are run again."""
    answered: set[str]
    """Scopes of model calls that the memory made: it answers as a whole."""
    reader: Reader
    edited: set[str] = set()
    """Tasks whose output a fork replaced."""

    def leave_out(self, edits: Edits) -> None:
        """Tasks that were given another output are told no more."""
        self.edited = set(edits.outputs)

    def events(self) -> list[StoredEvent]:
        """Return what one process without interruptions would have told, except what answers tell themselves."""
        told = told_once(self.parts, self._counts)
        told = [event for event in told if event.path not in self.answered]
        return outside_of_answers(told, self.busy)

    def names_task(self, place: str) -> bool:
        """Whether the newest recorded definition has the task at ``place``; unknown is yes."""
        split = split_task_place(place)
        known = self.tape.definition(split[0]) if split else None
        lines: Any = known.get("tasks") if known else None
        if split is None or not isinstance(lines, list):
            return True
        return any(str(line.get("key"))[:8] == split[1] for line in lines)

    def _counts(self, place: str) -> bool:
        """Whether a finished task that was not run again still counts."""
        return place not in self.edited and self.names_task(place)


def read_recorded(reader: Reader, branch: int, found: ExecutionInfo) -> Recorded:
    """Return what is recorded of an execution on a lineage.

    Raises:
        CompactedError: its events were compacted, and the tape was not kept.
    """
    refuse_compacted(reader, branch, found)
    tape = read_tape(reader, branch, found.path, found.started_seq - 1, SEQ_MAX, retries_failures=False)
    events = list(reader.stored(branch, found.started_seq - 1, below=found.path, kept=True))
    drop_given_up(tape, [e.seq for e in events if e.type == RESUMED and e.path == found.path])
    parts = stretches(events, found.path)
    busy = busy_tools(e for part in parts for e in part if not e.flags & FLAG_REPLAYED)
    inside = {e.fields.get(k) for calls in tape.llm.values() for e in calls if e.fields.get("inside") for k in ENDS}
    answered = {e.path for part in parts for e in part if e.event_id in inside}
    return Recorded(tape, parts, busy | tape.busy_tools, answered, reader)


def refuse_compacted(reader: Reader, branch: int, found: ExecutionInfo) -> None:
    """Return if all that an execution did is on record.

    Raises:
        CompactedError: it began at or below the base of the lineage, and the tape was not kept.
    """
    base = reader.base(branch)
    if base is not None and found.started_seq <= base.seq and not base.keeps_tape:
        run, name = reader.branch_name(branch)
        raise CompactedError(run or "", name, base.seq, f"the events that executing {found.path} again needs")
