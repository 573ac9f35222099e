"""Which seqs are lost, whose they were, and the events that say so in their place.

An event ``eventlog.capture_gap`` stands at the first lost seq of a stretch, and for every damaged event at its own.
It names the lost seqs around it, so that a check of the new log knows why they are missing.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from eventlog.errors import EventFormatError
from eventlog.repair.chains import DAMAGED, Break
from eventlog.repair.links import Links
from eventlog.repair.work import Work
from eventlog.seal import EVENT
from eventlog.verifying.events import GAP, LostSeqs

CAUSE = "lost to damage of the file; saved by eventlog repair"

_TOP = (
    "SELECT max(coalesce((SELECT max(seq) FROM events), 0), coalesce((SELECT max(seq) FROM known_events), 0),"
    " coalesce((SELECT max(seq) FROM bases), 0))"
)
_FLOOR = "SELECT coalesce(max(seq), 0) FROM bases"
_KNOWN = (
    "INSERT OR IGNORE INTO lost (seq, branch) SELECT k.seq, k.branch FROM known_events AS k"
    " LEFT JOIN branches AS b ON b.id = k.branch LEFT JOIN events AS e ON e.seq = k.seq"
    " WHERE e.seq IS NULL AND (k.seq > ?1 OR k.seq > b.base_seq OR k.seq IN (SELECT seq FROM retained)"
    " OR k.seq IN (SELECT seq FROM known_retained))"
)
_RETAINED = (
    "INSERT OR IGNORE INTO lost (seq, branch) SELECT k.seq, iif(k.seq > coalesce(b.fork_seq, 0), k.branch, NULL)"
    " FROM retained AS k LEFT JOIN branches AS b ON b.id = k.branch WHERE k.seq NOT IN (SELECT seq FROM events)"
)
"""A branch that was forked may retain events of its parent."""
_FIRST = "SELECT min(seq) FROM lost WHERE seq > ?1 AND seq < ?2 AND taken IS NULL AND {}"
_COUNT = "SELECT count(*) FROM lost WHERE seq > ?1 AND seq < ?2 AND {}"
_THERE = "SELECT seq FROM events WHERE seq > ? AND seq < ? ORDER BY seq"
_LOST_RETAINED = "SELECT l.seq, coalesce(l.branch, 0) FROM lost AS l JOIN retained AS k ON k.seq = l.seq GROUP BY l.seq"
_ENDS = (
    "SELECT l.branch, coalesce((SELECT max(seq) FROM events WHERE branch = l.branch), 0) FROM lost AS l"
    " WHERE l.branch IS NOT NULL GROUP BY l.branch"
)
_DAMAGED = (
    "SELECT e.seq, iif(e.seq <= b.fork_seq, 0, e.branch) FROM events AS e JOIN branches AS b ON b.id = e.branch"
    " WHERE e.verdict = ?"
)
"""One on a branch that begins later belonged to no one knows which."""
_PUT = "INSERT OR IGNORE INTO lost (seq) VALUES (?)"
_FORMER = (
    "SELECT e.seq, e.payload FROM events AS e JOIN names AS n ON n.id = e.type WHERE n.kind = 'type' AND n.name = ?"
    " AND e.verdict IN ('proven', 'changed', 'unproven')"
)
_FORGIVE = "DELETE FROM lost WHERE branch IS NULL AND seq >= ? AND seq <= ?"
_RANGE = "seq > ? AND seq < ?"


class Stretch(msgspec.Struct, frozen=True):
    """What an event in the place of lost ones says."""

    dropped: int
    cause: str
    lost: list[tuple[int, int]]
    """Seqs that are missing hereabouts, first and last of each stretch."""
    found_at_ns: int


def find_lost(links: Links, breaks: Iterable[Break]) -> None:
    """Take down every seq that should be there and is not, with its branch if an index knows it."""
    work = links.work
    floor = work.one(_FLOOR)
    work.db.execute(_KNOWN, (floor,))
    work.db.execute(_RETAINED)
    _fill(work, floor, work.one(_TOP) + 1)
    for gap in breaks:
        is_told = work.one(f"SELECT 1 FROM lost WHERE {_RANGE} LIMIT 1", gap.after, gap.before)
        if gap.after < floor and not is_told:  # compaction may have taken them: nobody knows
            _fill(work, gap.after, gap.before)
    _leave_out_told(links)


def _leave_out_told(links: Links) -> None:
    """Take no seq down again that a former repair has accounted for."""
    for seq, payload in links.work.db.execute(_FORMER, (GAP,)).fetchall():
        try:
            told = msgspec.json.decode(links.opened(payload, EVENT, seq), type=LostSeqs)
        except (EventFormatError, msgspec.MsgspecError):
            continue
        links.work.db.executemany(_FORGIVE, told.lost)


def _fill(work: Work, after: int, before: int) -> None:
    """Take down the seqs between two that no event has."""
    expected = after + 1
    for (seq,) in work.db.execute(
        "SELECT seq FROM events WHERE seq > ? AND seq < ? ORDER BY seq", (after, before)
    ).fetchall():
        work.db.executemany(_PUT, ((missing,) for missing in range(expected, seq)))
        expected = seq + 1
    work.db.executemany(_PUT, ((missing,) for missing in range(expected, before)))


def place_markers(work: Work, breaks: list[Break], now_ns: int) -> None:
    """Decide where an event says that others are lost.

    One for each damaged event, for each broken chain, for each branch whose end is lost, and in no run for the rest.
    """
    damaged = work.db.execute(_DAMAGED, (DAMAGED,))
    for seq, branch in damaged.fetchall():
        _put(work, seq, branch, Stretch(1, CAUSE, [], now_ns))
    for seq, branch in work.db.execute(_LOST_RETAINED).fetchall():
        _put(work, seq, branch, Stretch(1, CAUSE, [(seq, seq)], now_ns))
    for gap in sorted(breaks, key=lambda gap: gap.before):
        _mark(work, gap, now_ns)
    for branch, after in work.db.execute(_ENDS).fetchall():
        if work.one("SELECT 1 FROM lost WHERE branch = ? AND seq > ?", branch, after):
            _mark(work, Break(branch, after, work.one(_TOP) + 1), now_ns)
    _mark_rest(work, now_ns)


def _mark(work: Work, gap: Break, now_ns: int) -> None:
    """Place one for a stretch of a branch: where an index knows that it lost an event, or where it may have."""
    span = (gap.after, gap.before)
    seq = work.one(_FIRST.format("branch = ?3"), *span, gap.branch)
    if seq is None:
        seq = work.one(_FIRST.format("branch IS NULL"), *span)
    if seq is None:
        return
    dropped = work.one(_COUNT.format("branch = ?3"), *span, gap.branch)
    if not dropped:  # perhaps all of them, perhaps one
        dropped = work.one(_COUNT.format("branch IS NULL"), *span)
    _put(work, seq, gap.branch, Stretch(dropped, CAUSE, _stretches(work, *span), now_ns))


def _stretches(work: Work, after: int, before: int) -> list[tuple[int, int]]:
    """Return the lost seqs between two as stretches."""
    found: list[tuple[int, int]] = []
    for (seq,) in work.db.execute(f"SELECT seq FROM lost WHERE {_RANGE} ORDER BY seq", (after, before)):
        if found and found[-1][1] == seq - 1:
            found[-1] = (found[-1][0], seq)
        else:
            found.append((seq, seq))
    return found


def _mark_rest(work: Work, now_ns: int) -> None:
    """Place one in no run for each stretch that no other event accounts for."""
    told: list[tuple[int, int]] = []
    for (payload,) in work.db.execute("SELECT payload FROM markers"):
        told += msgspec.json.decode(payload, type=Stretch).lost
    for first, last in _stretches(work, 0, 2**62):
        if any(start <= first and last <= end for start, end in told):
            continue
        seq = work.one("SELECT min(seq) FROM lost WHERE taken IS NULL AND seq >= ? AND seq <= ?", first, last)
        if seq is not None:
            _put(work, seq, 0, Stretch(last - first + 1, CAUSE, [(first, last)], now_ns))


def _put(work: Work, seq: int, branch: int, stretch: Stretch) -> None:
    """Take down an event that will stand there."""
    payload = msgspec.json.encode(stretch).decode()
    work.db.execute("INSERT OR IGNORE INTO markers (seq, branch, payload) VALUES (?, ?, ?)", (seq, branch, payload))
    work.db.execute("UPDATE lost SET taken = 1 WHERE seq = ?", (seq,))
