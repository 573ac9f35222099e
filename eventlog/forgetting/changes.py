"""What is to be written to take a value out of a log."""

from __future__ import annotations

from typing import Any

import msgspec

from eventlog.bases import Base


class Changes(msgspec.Struct):
    """Rows and what they are without the value, as they are stored."""

    events: dict[int, dict[str, Any]] = {}
    """Seq → new columns."""
    contents: dict[int, tuple[str, str, str, bool]] = {}
    """Row → hash, kind, body, and whether the hash still fits."""
    names: dict[int, tuple[str, str, str]] = {}
    """Row → kind, name, label."""
    paths: dict[int, tuple[int, str, str]] = {}
    """Row → parent, label, and the label in clear."""
    executions: list[tuple[str, str, int, int]] = []
    """Name, key, branch, path."""
    bases: list[Base] = []
    """Without a valid proof."""
    marks: dict[int, str] = {}
    """Row → document."""
    snapshots: set[int] = set()
    """Rows whose states hold it, or were folded from what did."""
    touched: set[int] = set()
    """Seqs of the events that differ from their digest then."""
    fixed: list[str] = []
    """Where it stands and cannot be taken out."""
