"""Turn what a person writes as a cursor into a position on a lineage."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timezone

import msgspec

from eventlog.errors import AmbiguousCursorError, CompactedError, CursorNotFoundError, NotFoundError
from eventlog.lineage import SEQ_MAX
from eventlog.read import Reader
from eventlog.record import MAIN_BRANCH

PREFIX_CHARS_MIN = 6
CHECKPOINT_ID = re.compile(r"\d{8}T\d{6}_([0-9a-f]{8,})(?:-[0-9a-f]+)?")
"""As ``crewai checkpoint list`` shows them: time and seq."""
INT64_MAX = 2**63 - 1
"""What SQLite can compare with: times after the year 2262 are all the same to it, and so are those before 1677."""
SEQ_DIGITS_MAX = 19
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Cursor(msgspec.Struct, frozen=True):
    """A position on a branch, inclusive."""

    run: str | None
    branch: str
    seq: int


def find_cursor(reader: Reader, text: str | int | None, run: str, branch: str) -> Cursor:
    """Return the position that ``text`` means on a branch.

    All digits: a seq (one of another lineage means the last event of this one at or before it);
    ``latest``; an ISO time: the last event not after it; a checkpoint's id; else an event id, or at least six
    characters of its beginning.

    Raises:
        RunNotFoundError, BranchNotFoundError: there is no such lineage.
        CursorNotFoundError, AmbiguousCursorError: the text means nothing there, or too much.
        CompactedError: it lies before the base of the lineage.
    """
    row = reader.branch_id(run, branch)
    if text is None or text == "latest":
        return Cursor(run, branch, reader.head(row))
    if isinstance(text, int) or _is_seq(text):
        return Cursor(run, branch, _seq_on(reader, row, text))
    moment = _parse_time(text)
    if moment is not None:
        return Cursor(run, branch, reader.seq_at_time(row, moment))
    mark = CHECKPOINT_ID.fullmatch(text)
    if mark is not None:
        return Cursor(run, branch, _seq_on(reader, row, int(mark[1], 16)))
    seqs = [seq for seq, owner in _by_prefix(reader, text, reader.run_id(run)) if _on_lineage(reader, row, owner, seq)]
    seq = _only(text, seqs)
    reader.lineage(row, seq)  # it may lie before the base
    return Cursor(run, branch, seq)


def find_event(reader: Reader, text: str) -> Cursor:
    """Return the position of one event anywhere in the log, with its own run and branch.

    Raises:
        CursorNotFoundError, AmbiguousCursorError: no event, or several.
        CompactedError: it was compacted, for all we know.
    """
    mark = CHECKPOINT_ID.fullmatch(text)
    if _is_seq(text) or mark is not None:
        seq = _number(text) if mark is None else min(int(mark[1], 16), SEQ_MAX)
        owner = reader.where_is(seq) if seq < SEQ_MAX else None
        if owner is None:
            _refuse_compacted(reader, seq)
            raise CursorNotFoundError(text)
    else:
        found = _by_prefix(reader, text, None)
        seq = _only(text, [s for s, _ in found])
        owner = next(b for s, b in found if s == seq)
    run, branch = reader.branch_name(owner)
    return Cursor(run, branch, seq)


def find_moment(reader: Reader, text: str | int | None, run: str = "", branch: str = MAIN_BRANCH) -> int:
    """Return the seq up to which the *whole* log counts at a cursor; without one, or ``latest``: all of it.

    A number is that seq, on whatever branch, also below a base; a time means all that was emitted by then. An event
    id means an event of the branch, or else of the log.

    Raises:
        CursorNotFoundError, AmbiguousCursorError: the text means nothing, or too much.
        CompactedError: the event was compacted.
    """
    if text is None or text == "latest":
        return SEQ_MAX
    if isinstance(text, int) or _is_seq(text):
        seq = text if isinstance(text, int) else _number(text)
        if 0 <= seq <= reader.last_seq():
            return seq
        raise CursorNotFoundError(str(text))
    moment = _parse_time(text)
    if moment is not None:
        return reader.last_seq(until_ns=moment)
    if run and CHECKPOINT_ID.fullmatch(text) is None:
        with suppress(NotFoundError):
            return find_cursor(reader, text, run, branch).seq
    return find_event(reader, text).seq


def _refuse_compacted(reader: Reader, seq: int) -> None:
    """Say that an event is gone, where only one branch can have had it."""
    rows = reader.query("SELECT id, base_seq FROM branches WHERE base_seq >= ? LIMIT 2", (max(seq, 1),))
    if len(rows) == 1:
        run, branch = reader.branch_name(rows[0][0])
        raise CompactedError(run or "", branch, rows[0][1])


def _seq_on(reader: Reader, row: int, text: str | int) -> int:
    """Return the last seq of a lineage at or before a number."""
    wanted = text if isinstance(text, int) else _number(text)
    if not 0 <= wanted < SEQ_MAX or wanted > reader.query("SELECT coalesce(max(seq), 0) FROM events")[0][0]:
        raise CursorNotFoundError(str(text))
    return reader.head(row, wanted)


def _is_seq(text: str) -> bool:
    """Whether a cursor is a number: digits of other scripts are none."""
    return text.isascii() and text.isdigit()


def _number(text: str) -> int:
    """Return a seq; one with too many digits is beyond all there can be."""
    return int(text) if len(text) <= SEQ_DIGITS_MAX else SEQ_MAX


def _by_prefix(reader: Reader, text: str, run: int | None) -> list[tuple[int, int]]:
    """Return the events whose id begins with ``text``."""
    if len(text) < PREFIX_CHARS_MIN:
        raise CursorNotFoundError(text)
    return reader.events_with_prefix(text, run)


def _on_lineage(reader: Reader, row: int, owner: int, seq: int) -> bool:
    """Whether an event of branch ``owner`` belongs to the lineage of branch ``row``."""
    return any(b == owner and low < seq <= high for b, low, high in reader.ancestry(row))


def _only(text: str, seqs: list[int]) -> int:
    """Return the one match."""
    if not seqs:
        raise CursorNotFoundError(text)
    if len(set(seqs)) > 1:
        raise AmbiguousCursorError(text, len(set(seqs)))
    return seqs[0]


def _parse_time(text: str) -> int | None:
    """Return an ISO 8601 time as nanoseconds since the epoch; without a zone it is UTC."""
    if not re.match(r"\d{4}-\d\d-\d\d", text):
        return None
    try:
        moment = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    span = moment - EPOCH
    at_ns = (span.days * 86_400 + span.seconds) * 1_000_000_000 + span.microseconds * 1000 + 999
    return max(-INT64_MAX, min(at_ns, INT64_MAX))
