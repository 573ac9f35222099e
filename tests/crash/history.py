"""Whether what several processes saw of one log can have happened; pure.

Each process notes what it asked for, when, what came back, and when (one clock for all). The order of ``seq`` is the
order in which everything took place; what is checked is that every answer agrees with it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise

import msgspec


class Append(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """An append that was acknowledged."""

    id: str
    branch: str
    """Which it was meant for."""
    epoch: int = 0
    """Of the lease the process had, or thought it had; 0: the branch is everybody's."""
    seq: int
    began: int
    ended: int


class Grant(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """A lease that a process got."""

    branch: str
    epoch: int
    began: int
    ended: int


class Read(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """All events of a branch with its ancestors, as one reader saw them."""

    reader: int
    branch: str
    events: list[tuple[int, str]]
    """Seq and id, in the order they came; none if all that was there was compacted."""
    at: int
    """Seq at which a state was asked for: that of the last event, or the newest."""
    count: int | None = None
    """Events the state counts there; ``None`` if the base had moved past it."""
    began: int
    ended: int


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is in the log or its archive in the end."""

    seq: int
    id: str
    branch: str
    archived: bool = False


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """A branch in the end."""

    name: str
    parent: str = ""
    fork_seq: int = 0


Done = Append | Grant | Read


def impossible(history: list[Done], stored: list[Stored], branches: list[Branch]) -> Iterator[str]:
    """Yield what cannot have happened."""
    appends = sorted((done for done in history if isinstance(done, Append)), key=lambda done: done.seq)
    grants = sorted((done for done in history if isinstance(done, Grant)), key=lambda done: done.epoch)
    reads = sorted((done for done in history if isinstance(done, Read)), key=lambda done: done.began)
    place = {event.id: event for event in stored}
    yield from _each_once(appends, stored)
    yield from _out_of_order(appends)
    yield from _twice_or_late(grants)
    yield from _against_a_lease(appends, grants, place)
    lineages = {branch.name: _lineage(branch, branches, stored) for branch in branches}
    yield from _misread(reads, appends, lineages)
    yield from _unread(reads)


def _each_once(appends: list[Append], stored: list[Stored]) -> Iterator[str]:
    """What was acknowledged is stored, once, where it was said to be, and nothing else is."""
    times = Counter(event.id for event in stored)
    said, seqs = {done.id: done.seq for done in appends}, Counter(event.seq for event in stored)
    yield from (f"{done.id} was acknowledged and is lost" for done in appends if not times[done.id])
    yield from (f"{name} is stored {count} times" for name, count in times.items() if count > 1)
    yield from (f"seq {seq} is used {count} times" for seq, count in seqs.items() if count > 1)
    for event in stored:
        if said.get(event.id) != event.seq:
            yield f"{event.id} is stored at {event.seq}, acknowledged was {said.get(event.id)}"


def _out_of_order(appends: list[Append]) -> Iterator[str]:
    """What began after another had returned comes after it."""
    first_end = None
    for done in reversed(appends):
        if first_end is not None and first_end < done.began:
            yield f"{done.id} (seq {done.seq}) began after something with a higher seq had returned"
        first_end = done.ended if first_end is None else min(first_end, done.ended)


def _twice_or_late(grants: list[Grant]) -> Iterator[str]:
    """No two leases have one epoch, and a later one has a higher."""
    for former, later in pairwise(grants):
        if former.epoch == later.epoch:
            yield f"epoch {later.epoch} was given twice"
        if later.ended < former.began:
            yield f"epoch {later.epoch} was given before {former.epoch}"


def _against_a_lease(appends: list[Append], grants: list[Grant], place: dict[str, Stored]) -> Iterator[str]:
    """Who has lost a branch writes beside it, and nobody else does."""
    newest: dict[str, int] = {}
    for done in (done for done in appends if done.id in place):
        where, later = place[done.id].branch, [g for g in grants if g.branch == done.branch and g.epoch > done.epoch]
        if where == done.branch:
            if done.epoch < newest.get(where, 0):
                yield f"{done.id} of epoch {done.epoch} is on {where} after one of epoch {newest[where]}"
            if done.epoch and any(grant.ended < done.began for grant in later):
                yield f"{done.id} of epoch {done.epoch} is on {where}, which another had by then"
            newest[where] = max(newest.get(where, 0), done.epoch)
        elif not done.epoch or where != f"stale/{done.epoch}":
            yield f"{done.id} of epoch {done.epoch} for {done.branch} is on {where}"
        elif not any(grant.began < done.ended for grant in later):
            yield f"{done.id} of epoch {done.epoch} is on {where}, but nobody else had {done.branch}"


def _lineage(branch: Branch, branches: list[Branch], stored: list[Stored]) -> list[Stored]:
    """Return the events of a branch with its ancestors, in order."""
    known = {found.name: found for found in branches}
    inherited: list[Stored] = []
    if branch.parent:
        above = _lineage(known[branch.parent], branches, stored)
        inherited = [event for event in above if event.seq <= branch.fork_seq]
    own = {event.seq: event for event in stored if event.branch == branch.name}
    return inherited + [own[seq] for seq in sorted(own)]


def _misread(reads: list[Read], appends: list[Append], lineages: dict[str, list[Stored]]) -> Iterator[str]:
    """A read shows a branch from a base on, without gaps, up to at least what had been acknowledged when it began."""
    ends = {done.id: done.ended for done in appends}
    for read in reads:
        lineage = lineages.get(read.branch, [])
        known = [event.seq for event in lineage if ends.get(event.id, read.began) < read.began]
        there = bisect_right([event.seq for event in lineage], read.at)
        first = there - len(read.events) if read.events else len(known)
        what = f"reader {read.reader} of {read.branch} at {read.began}"
        if read.events and read.events != [(event.seq, event.id) for event in lineage[max(first, 0) : there]]:
            yield f"{what}: not the events of the branch, in order, without gaps"
        elif not all(event.archived for event in lineage[:first]):
            yield f"{what}: begins at {read.events[:1]}, but nothing before was compacted"
        if read.count is not None and read.count != there:
            yield f"{what}: the state counts {read.count} events, there are {there}"
        if known and read.at < known[-1]:
            yield f"{what}: an acknowledged event is missing"


def _unread(reads: Iterable[Read]) -> Iterator[str]:
    """What a reader saw once it sees again, but for what is compacted meanwhile."""
    seen: dict[tuple[int, str], Read] = {}
    for read in reads:
        former = seen.get((read.reader, read.branch))
        if former is not None and former.events:
            first = read.events[0][0] if read.events else former.events[-1][0] + 1
            again = [event for event in former.events if event[0] >= first]
            if read.events[: len(again)] != again:
                yield f"reader {read.reader} of {read.branch} at {read.began}: what was there before is another"
        seen[read.reader, read.branch] = read
