"""What of a run goes into an export: stretches of branches, and for a compacted one its base and what it retains."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import cast

import msgspec

from eventlog.bases import Base, read_spent
from eventlog.lineage import BaseMovedError, Segment
from eventlog.read import Reader
from eventlog.record import StoredEvent
from eventlog.replay.state import ExecutionStatus
from eventlog.transfer.lines import BaseLine, SettledLine, StandingLine
from eventlog.values import resolve


class Part(msgspec.Struct):
    """What is exported of one run."""

    segments: list[Segment]
    """Stretches of branches, above their bases."""
    names: set[str] = set()
    """The branches."""
    bases: dict[str, Base] = {}
    """Branch → its own base."""


def part_of(reader: Reader, segments: list[Segment]) -> Part:
    """Return stretches of branches with the bases those begin at."""
    part = Part([])
    for row, low, high in segments:
        name = reader.branch_name(row)[1]
        base = _own_base(reader, row)
        part.names.add(name)
        if base is not None:
            part.bases[name] = base
        part.segments.append((row, max(low, base.seq if base is not None else 0), high))
    return part


def refuse_moved(reader: Reader, part: Part) -> None:
    """Return if the branches still begin where they did.

    Raises:
        BaseMovedError: a compaction was quicker than the export.
    """
    for row, _, _ in part.segments:
        run, name = reader.branch_name(row)
        base = _own_base(reader, row)
        if base is not None and base != part.bases.get(name):
            raise BaseMovedError(run or "", name, base.seq)


def _own_base(reader: Reader, row: int) -> Base | None:
    """Return the base of a branch itself, not that of an ancestor."""
    base = reader.base(row)
    return base if base is not None and base.branch == row else None


def events_of(reader: Reader, part: Part) -> Iterator[tuple[StoredEvent, list[str]]]:
    """Yield the events in the order of the log, each with the branches that retain it."""
    streams = [_marked(reader.stored(row, after=low, to=high), "") for row, low, high in part.segments]
    for name, base in part.bases.items():
        streams.append(_marked(reader.stored(base.branch, to=base.seq, kept=True), name))
    merged = heapq.merge(*streams, key=itemgetter(0))
    for _, group in groupby(merged, key=itemgetter(0)):
        found = list(group)
        yield found[0][1], sorted(name for _, _, name in found if name)


def _marked(events: Iterator[StoredEvent], name: str) -> Iterator[tuple[int, StoredEvent, str]]:
    """Yield seq, event and the branch that retains it; no name for one that is in its own place."""
    return ((event.seq, event, name) for event in events)


def base_line(reader: Reader, base: Base) -> BaseLine:
    """Return a base for the header."""
    cut = reader.at(base.seq)
    standing = [
        StandingLine(path=info.path, status=cast("ExecutionStatus", info.status), ended_seq=info.ended_seq)
        for info in reader.executions(base.branch, base.seq)
    ]
    return BaseLine(
        event_id=cut.event_id if cut is not None else "?",
        seq=base.seq,
        state=resolve(msgspec.json.decode(base.state), reader.content),
        projections=msgspec.json.decode(base.projections, type=dict[str, SettledLine]),
        spent=read_spent(base),
        keeps_tape=base.keeps_tape,
        events=base.events,
        executions=standing,
    )
