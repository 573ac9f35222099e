"""What a check found."""

from __future__ import annotations

import msgspec

FINDINGS_MAX = 200
"""More are counted, not listed."""


class Finding(msgspec.Struct, kw_only=True):
    """One place where a log does not hold together."""

    kind: str
    """``file``, ``wal``, ``schema``, ``page``, ``key``, ``seq``, ``event``, ``content``, ``branch``, ``base``,
    ``retained``, ``tombstone``, ``execution``, ``snapshot`` or ``head``."""
    seq: int | None = None
    """The event at which it shows first."""
    run: str | None = None
    branch: str | None = None
    what: str
    readable: str = ""
    """What is sound all the same."""


class VerifyReport(msgspec.Struct, kw_only=True):
    """What a check of a log found; ``ok`` when that is nothing."""

    path: str
    ok: bool = True
    deep: bool = False
    run: str | None = None
    """The run that was checked; ``None``: the whole log."""
    keyed: bool = False
    """Whether the chain was made with a key (``EVENTLOG_KEY``)."""
    key_checked: bool = False
    """Whether that key was here: then the check finds tampering, not only accidents."""
    events: int = 0
    """Events whose place in the chain was computed anew; without the key of a keyed chain, that were read."""
    contents: int = 0
    snapshots: int = 0
    head: str = ""
    """To be kept elsewhere: see ``heads``."""
    first_bad_seq: int | None = None
    findings: list[Finding] = []
    """The one with the first bad seq comes first."""
    more: int = 0
    """Findings beyond ``FINDINGS_MAX``."""
    readable: list[str] = []
    """What is sound of each damaged branch, and of the others."""
    notes: list[str] = []
    """What is no damage, but worth knowing: what could not be checked, what nobody refers to."""


class Place(msgspec.Struct, frozen=True):
    """A branch as a finding names it."""

    run: str | None
    branch: str | None

    def __str__(self) -> str:
        """Return ``run tea``, ``run tea, branch b``, or that it is none."""
        if self.run is None:
            return "no run"
        return f"run {self.run}" if self.branch == "main" else f"run {self.run}, branch {self.branch}"


NOWHERE = Place(None, None)


class Findings:
    """Collects what is found."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.listed: list[Finding] = []
        self.more = 0
        self.notes: list[str] = []
        self.first_bad: dict[Place, int] = {}
        """Place → its first bad seq."""

    def add(
        self, kind: str, what: str, *, seq: int | None = None, place: Place = NOWHERE, readable: str = ""
    ) -> None:  # fmt: skip
        """Take one down."""
        if seq is not None:
            self.first_bad[place] = min(seq, self.first_bad.get(place, seq))
        if len(self.listed) >= FINDINGS_MAX:
            self.more += 1
            return
        self.listed.append(
            Finding(kind=kind, seq=seq, run=place.run, branch=place.branch, what=what, readable=readable)
        )

    def note(self, text: str) -> None:
        """Take something down that is no damage."""
        self.notes.append(text)

    def in_order(self) -> list[Finding]:
        """Return the findings, the first bad seq first."""
        return sorted(self.listed, key=lambda finding: (finding.seq is None, finding.seq or 0))

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.listed
