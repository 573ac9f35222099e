"""One line that says how far a log had come; kept elsewhere, it shows that nothing was cut off or rolled back since.

::

    1-42-9f86d081884c7d659a2f,3-57-60303ae22b998861bce3
    │ │  └ first half of the digest of the newest event of the branch
    │ └ its seq
    └ row of the branch

A log that has grown still holds these events. Those that compaction dropped lie at or below the base of their
branch, whose proof vouches for them.
"""

from __future__ import annotations

import re
from typing import Any

from eventlog.bases import read_base
from eventlog.errors import EventLogError
from eventlog.verifying.subject import Subject

HEX_CHARS = 20
NOTHING = "0"
"""Head of a log without events."""
_ENTRY = re.compile(rf"(\d{{1,18}})-(\d{{1,18}})-([0-9a-f]{{{HEX_CHARS}}})")
_EVENT = "SELECT branch, digest FROM events WHERE seq = ?"

Entry = tuple[int, int, str]
"""Row of the branch, seq, beginning of the digest."""


class HeadFormatError(EventLogError):
    """What was given is no head of a log."""

    hint = "give the line that eventlog verify printed after 'head' (--json: .head)"


def parse_head(text: str) -> list[Entry]:
    """Return the entries of a head.

    Raises:
        HeadFormatError: it is none.
    """
    if text.strip() == NOTHING:
        return []
    found = [_ENTRY.fullmatch(part) for part in text.strip().split(",")]
    entries = [(int(m[1]), int(m[2]), m[3]) for m in found if m is not None]
    if len(entries) != len(found):
        raise HeadFormatError(f"{text.strip()[:40]!r} is no head of a log")
    return entries


def head_of(subject: Subject, newest: dict[int, tuple[int, Any]]) -> str:
    """Return the head: ``newest`` holds seq and digest of the newest event of each branch that has any."""
    entries = dict(newest)
    for branch in subject.branches.values():
        if branch.base and branch.row not in entries:
            with subject.guarded("the bases"):
                base = read_base(subject.db, branch.row)
                if base is not None:
                    entries[branch.row] = (base.seq, base.digest)
    parts = (
        f"{row}-{seq}-{d[: HEX_CHARS // 2].hex()}" for row, (seq, d) in sorted(entries.items()) if type(d) is bytes
    )
    return ",".join(parts) or NOTHING


def check_head(subject: Subject, entries: list[Entry]) -> None:
    """Take down which events of a head kept elsewhere are not in the log."""
    unsound = {(f.run, f.branch) for f in subject.findings.listed if f.kind == "base"}
    for row, seq, digest in entries:
        place = subject.place(row)
        with subject.guarded("the events of the head"):
            problem = _problem(subject, row, seq, digest, is_sound=(place.run, place.branch) not in unsound)
            if problem:
                subject.findings.add(
                    "head", problem, seq=seq, place=place, readable="what the rest of this report says"
                )


def _problem(subject: Subject, row: int, seq: int, digest: str, *, is_sound: bool) -> str:
    """Return what one entry shows."""
    branch = subject.branches.get(row)
    if branch is None:
        return f"the head knows a branch (row {row}) that is not here: the log was rolled back, or is another one"
    base = read_base(subject.db, row) if branch.base else None
    if base is not None and base.seq == seq and bytes(base.digest).hex().startswith(digest):
        return ""
    found = subject.db.execute(_EVENT, (seq,)).fetchone()
    if found is None or found[0] != row:
        if seq <= branch.base:
            return "" if is_sound else "compaction took it, and the base that should vouch for it is damaged"
        return f"the head ends at seq {seq}, which is not here: the tail was cut off, or the log rolled back"
    if bytes(found[1]).hex().startswith(digest):
        return ""
    return f"the head knows seq {seq} with another digest: this is another history"
