"""What a compaction did, or would do."""

from __future__ import annotations

import msgspec

from eventlog.read import Reader


class BranchCompaction(msgspec.Struct, kw_only=True):
    """One branch."""

    run: str
    branch: str
    cut: int
    """Its base: the oldest cursor that can be replayed."""
    dropped: int
    """Events that went, or would go."""
    retained: int
    """Events at or below the cut that stay: outcomes, definitions, the tape of what is unfinished."""
    checkpoints: int
    """Checkpoints that are left."""
    problem: str = ""
    """Why it was left as it was."""


class CompactionReport(msgspec.Struct, kw_only=True):
    """What a compaction did."""

    path: str
    dry_run: bool
    branches: list[BranchCompaction] = []
    """Those that were, or would be, cut."""
    events_before: int = 0
    events_after: int = 0
    contents_before: int = 0
    contents_after: int = 0
    bytes_before: int = 0
    """Of the file and its WAL."""
    bytes_after: int = 0
    archive: str | None = None

    @property
    def ok(self) -> bool:
        """Whether every branch that was to be cut was."""
        return not any(branch.problem for branch in self.branches)


def count_rows(reader: Reader) -> tuple[int, int]:
    """Return how many events and contents are in a log."""
    events = reader.query("SELECT count(*) FROM events")[0][0]
    return int(events), int(reader.query("SELECT count(*) FROM contents")[0][0])


def count_checkpoints(reader: Reader, branch: int, cut: int) -> int:
    """Return how many checkpoints of a branch a base at ``cut`` leaves."""
    sql = "SELECT count(*) FROM snapshots WHERE branch = ? AND kind = 'checkpoint' AND seq >= ?"
    return int(reader.query(sql, (branch, cut))[0][0])
