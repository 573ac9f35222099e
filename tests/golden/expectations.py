"""What a log is expected to replay to, kept as JSON beside it, and how to tell whether it still does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

import eventlog
from eventlog.record import OWN_PREFIX, WORK_TYPES, Event

FOLDER = Path(__file__).parent
CURSORS = 8
"""Cursors of each branch whose states are kept."""


def versions() -> list[str]:
    """Return the names of the folders of logs, one for each version of the format."""
    return sorted(path.name for path in FOLDER.iterdir() if path.is_dir() and any(path.glob("*.db")))


def names(version: str) -> list[str]:
    """Return the names of the logs of one version."""
    return sorted(path.stem for path in (FOLDER / version).glob("*.db"))


def expected(version: str, name: str) -> dict[str, Any]:
    """Return what a log was when it was written."""
    found: dict[str, Any] = json.loads((FOLDER / version / f"{name}.json").read_text("utf-8"))
    return found


def cursors(log: eventlog.Log, run: str, branch: str) -> list[int]:
    """Return some seqs of a branch with its ancestors, evenly apart, the first and the last among them."""
    seqs = [event.seq for event in log.events(run, branch)]
    return sorted({seqs[i * (len(seqs) - 1) // (CURSORS - 1)] for i in range(CURSORS)}) if seqs else []


def observe(log: eventlog.Log, at: dict[str, dict[str, list[int]]] | None = None) -> dict[str, Any]:
    """Return everything a log says, as plain JSON; ``at``: the cursors of each run and branch, chosen if not given."""
    at = at or {
        info.run: {b.branch: cursors(log, info.run, b.branch) for b in log.branches(info.run)} for info in log.runs()
    }
    said = {
        "events": sum(1 for _ in log.events()),
        "runs": log.runs(),
        "branches": {run: log.branches(run) for run in at},
        "executions": {run: {name: log.executions(run, branch=name) for name in names} for run, names in at.items()},
        "own_events": [_own_event(event) for event in log.events() if _is_own(event)],
        "states": {
            run: {name: {str(to): log.state(run, branch=name, to=to) for to in seqs} for name, seqs in names.items()}
            for run, names in at.items()
        },
        "heads": {run: {name: log.state(run, branch=name) for name in names} for run, names in at.items()},
        "ledgers": {run: _ledger(log, run, at[run]["main"]) for run in log.reader.runs_with(WORK_TYPES)},
    }
    plain: dict[str, Any] = json.loads(msgspec.json.encode(said))
    return plain


def _ledger(log: eventlog.Log, run: str, seqs: list[int]) -> dict[str, Any]:
    """Return what the ledger of a run says, at each cursor."""
    ledger = log.ledger(run)
    return {
        str(to): {
            "session": ledger.session(to=to), "features": ledger.features(to=to), "memories": ledger.memory.all(to=to)
        }
        for to in seqs
    } | {"now": {"session": ledger.session()}}  # fmt: skip


def cursors_of(said: dict[str, Any]) -> dict[str, dict[str, list[int]]]:
    """Return the cursors at which ``observe`` looked."""
    return {
        run: {name: [int(to) for to in states] for name, states in names.items()}
        for run, names in said["states"].items()
    }


def _is_own(event: Event) -> bool:
    """Whether an event was appended by the user."""
    return "." in event.type and not event.type.startswith(OWN_PREFIX)


def _own_event(event: Event) -> dict[str, Any]:
    """Return what its writer would look for."""
    kept = ("seq", "event_id", "type", "at_ns", "run", "branch", "flags", "payload")
    return {name: getattr(event, name) for name in kept}


def differences(before: Any, now: Any, place: str = "") -> Iterator[str]:
    """Yield where something is not what it was; a later version may tell more of a thing, never less or other."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key, value in before.items():
            if key in now:
                yield from differences(value, now[key], f"{place}.{key}")
            else:
                yield f"{place}.{key}: gone, was {value!r}"
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from differences(old, new, f"{place}[{number}]")
    elif before != now:
        yield f"{place}: {now!r}, was {before!r}"
