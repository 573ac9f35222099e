"""What was forgotten, or would be."""

from __future__ import annotations

import msgspec


class ForgetReport(msgspec.Struct, kw_only=True):
    """What a search for a value, or the emptying of an event, came to. It never holds the value."""

    path: str
    dry_run: bool
    event: int | None = None
    """Seq of the event that was emptied; ``None``: a value was looked for."""
    events: int = 0
    """Events that differ from their digest now; each has a tombstone."""
    contents: int = 0
    """Large values from which it was taken; of an emptied event: those only it referred to, which are gone."""
    contents_kept: int = 0
    """Large values of an emptied event that other events refer to as well: they stay as they are."""
    names: int = 0
    """Names of tasks and agents, labels of paths and rows of the index of executions."""
    bases: int = 0
    """Bases of compacted branches."""
    documents: int = 0
    """Checkpoints that CrewAI itself stored."""
    snapshots: int = 0
    """Stored states that were dropped: they are folded anew."""
    bytes_before: int = 0
    """Of the file and its WAL."""
    bytes_after: int = 0
    unfinished: list[str] = []
    """What is left to do, or could not be done, and why."""

    @property
    def ok(self) -> bool:
        """Whether nothing is left."""
        return not self.unfinished

    @property
    def found(self) -> int:
        """How many rows held it."""
        return self.events + self.contents + self.names + self.bases + self.documents + self.snapshots
