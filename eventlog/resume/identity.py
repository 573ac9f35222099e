"""Which recorded execution a kickoff continues. Pure.

The next one of the same identity with equal inputs that nobody has taken yet in this pass over
the run; else one whose definition was edited since, told by the tasks or agents it shares; else
none, and a new one begins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from eventlog.record import ExecutionInfo
from eventlog.replay.path import last_segment


class Wanted(msgspec.Struct, frozen=True):
    """What tells a kickoff from others."""

    kind: str
    label: str
    """Of its path, without the ordinal."""
    inputs_hash: str
    parts: frozenset[str]
    """Keys of its tasks and agents."""


def find_execution(
    wanted: Wanted, recorded: Iterable[ExecutionInfo], taken: Collection[str], parts: dict[str, frozenset[str]]
) -> ExecutionInfo | None:
    """Return the execution to continue. ``parts``: keys of tasks and agents by execution path."""
    free = [e for e in recorded if e.parent is None and e.path not in taken and e.kind == wanted.kind]
    free = [e for e in free if e.inputs_hash == wanted.inputs_hash]
    same = next((e for e in free if split(e.path)[0] == wanted.label), None)
    if same is not None:
        return same
    alike = (e for e in free if parts.get(e.path, frozenset()) & wanted.parts)
    return next(alike, None)


def split(path: str) -> tuple[str, int]:
    """Return label and ordinal of an execution's path."""
    label, _, ordinal = last_segment(path).rpartition("#")
    return label, int(ordinal) if ordinal.isdigit() else 0
