"""What a repair saved, and what is lost."""

from __future__ import annotations

import msgspec

from eventlog.verifying.report import VerifyReport

LISTED_MAX = 1000
"""Seqs and values listed; more are counted."""


class BranchSalvage(msgspec.Struct, kw_only=True):
    """What became of one branch."""

    run: str | None
    """``None``: events of no run."""
    branch: str
    kept: int = 0
    """Events in the new log."""
    lost: int = 0
    """Events that are known to be lost."""
    seqs: list[tuple[int, int]] = []
    """Where they stood: first and last of each stretch."""
    unproven: list[int] = []
    """Events that were kept although nothing proves them: what they chain to is lost."""
    base: str = ""
    """What is wrong with its base, if it was compacted and its base could not be proven."""
    reasons: list[str] = []


class LostValue(msgspec.Struct, kw_only=True):
    """A large value that is lost; a tag ``$lost`` stands in its place."""

    hash: str
    seq: int | None
    """The first event that refers to it."""
    events: int
    """How many do."""


class RepairReport(msgspec.Struct, kw_only=True):
    """What a repair saved."""

    path: str
    """The damaged log, unchanged."""
    into: str
    ok: bool = True
    """Whether nothing is lost."""
    events: int = 0
    lost: int = 0
    """Events that are known to be lost."""
    unaccounted: int = 0
    """Seqs that are missing and whose events nobody knows."""
    unproven: int = 0
    names_lost: int = 0
    """Runs and branches whose names are lost: they are called ``salvaged-…``."""
    contents: int = 0
    contents_lost: int = 0
    branches: list[BranchSalvage] = []
    values: list[LostValue] = []
    """Large values that are lost."""
    notes: list[str] = []
    verified: VerifyReport | None = None
    """A check of the new log."""
