"""Take runs from one log to another, and tell whether both say the same but for their seqs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

import eventlog
from eventlog import Log
from eventlog.bases import base_proof, read_base, read_retained
from eventlog.record import Event
from eventlog.replay.rebuild import rebuild_state
from eventlog.transfer.exports import export_lines
from eventlog.transfer.imports import Imported, import_file
from eventlog.values import resolve

SEQS = ("cursor", "started_seq", "completed_seq", "ended_seq", "seq")
"""Fields that are counted anew by an import."""


def exported(source: Log, file: Path, run: str | None = "r", **options: Any) -> list[dict[str, Any]]:
    """Write an export; returns its lines, decoded."""
    lines = list(export_lines(source, None if run is None else [run], **options))
    file.write_bytes(b"".join(lines))
    return [msgspec.json.decode(line) for line in lines]


def transferred(source: Log, target: Log, file: Path, run: str | None = "r", **options: Any) -> list[Imported]:
    """Export and import; returns what became of it."""
    exported(source, file, run, **options)
    return import_file(target, file)


def told(log: Log, branch: str = "main", to: int | None = None) -> dict[str, Any]:
    """Return a state without seqs, large values filled in."""
    state = rebuild_state(log.reader, "r", branch, *([] if to is None else [to]))
    return without_seqs(resolve(msgspec.to_builtins(state), log.reader.content))  # type: ignore[no-any-return]


def without_seqs(tree: Any) -> Any:
    """Return a tree without the fields that an import counts anew."""
    if isinstance(tree, dict):
        return {key: without_seqs(value) for key, value in tree.items() if key not in SEQS}
    return [without_seqs(item) for item in tree] if isinstance(tree, list) else tree


def said(events: list[Event]) -> list[Any]:
    """Return events without seqs."""
    return [msgspec.structs.replace(event, seq=0) for event in events]


def states(log: Log, branch: str = "main") -> list[dict[str, Any]]:
    """Return what is told at the base of a branch, and after each event since."""
    row = log.reader.branch_id("r", branch)
    base = log.reader.base(row)
    seqs = [event.seq for event in log.reader.stored(row)]
    return [told(log, branch, seq) for seq in ([] if base is None else [base.seq]) + seqs]


def standing(log: Log, branch: str = "main") -> list[tuple[str, str]]:
    """Return path and status of each execution."""
    return [(info.path, info.status) for info in log.executions("r", branch=branch)]


def unproven(file: Path) -> list[str]:
    """Return the branches whose base is not what its proof says, or does not fit to the events around it."""
    with eventlog.open(file) as log:
        return log.writer.pipeline.run_exclusively(lambda appender: list(_unproven(appender)))  # type: ignore[no-any-return]


def _unproven(appender: Any) -> list[str]:
    """Compute each proof anew, and follow the chain over each base."""
    found = []
    for row, name, base_seq in appender.db.execute("SELECT id, name, base_seq FROM branches WHERE base_seq > 0"):
        base = read_base(appender.db, row)
        assert base is not None
        retained = read_retained(appender.db, base)
        is_whole = base.proof == base_proof(appender.chain, base, retained) and base.seq == base_seq
        if not is_whole or retained[-1][2] != base.digest or any(digest is None for _, _, digest in retained):
            found.append(name)
    return found
