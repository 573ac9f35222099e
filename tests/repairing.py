"""A repair watched from outside: what it opens, what it leaves alone, and what its report should say."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from eventlog.repair.repair import repair_log
from eventlog.repair.report import RepairReport
from eventlog.verifying.verify import Wish, verify_log

MARKER = "eventlog.capture_gap"
CAUSE = "lost to damage of the file"
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FACTS = """
WITH RECURSIVE p (id, text) AS (
  SELECT 0, '' UNION ALL SELECT paths.id, p.text || '/' || paths.label FROM paths JOIN p ON paths.parent = p.id)
SELECT e.seq, y.name, e.payload, r.name, b.name, e.event_id, y.label, e.at_ns, e.parent, e.previous, e.triggered,
  e.started, e.emission, t.name, t.label, a.name, a.label, p.text, e.flags, e.digest
FROM events AS e LEFT JOIN branches AS b ON b.id = e.branch LEFT JOIN runs AS r ON r.id = b.run
  LEFT JOIN names AS y ON y.id = e.type LEFT JOIN names AS t ON t.id = e.task LEFT JOIN names AS a ON a.id = e.agent
  LEFT JOIN p ON p.id = e.path ORDER BY e.seq"""

Facts = dict[int, tuple[Any, ...]]
"""Seq → type, payload, and all else that is on record of an event, with its names in words."""


def facts_in(path: Path) -> Facts:
    """Return what a log says of its events."""
    with closing(sqlite3.connect(path)) as db:
        return {seq: tuple(facts) for seq, *facts in db.execute(_FACTS)}


def fingerprint(folder: Path) -> dict[str, tuple[str, int]]:
    """Return hash and time of change of every file of a folder."""
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.iterdir()
        if path.is_file()
    }


# -- who opens what -----------------------------------------------------------------------------------

_watched: list[tuple[str, list[str]]] = []


@cache
def _listen() -> None:
    """Have Python tell of every file that is opened; a listener cannot be taken away again."""
    sys.addaudithook(_hear)


def _hear(event: str, args: tuple[Any, ...]) -> None:
    """Take down who opens the watched file to write, or with SQLite, which may write whatever it is asked."""
    if not _watched or event not in ("open", "sqlite3.connect"):
        return
    name, heard = _watched[-1]
    if event == "sqlite3.connect" and name in str(args[0]):
        heard.append(f"SQLite: {args[0]}")
    elif event == "open" and str(args[0]).startswith(name) and (args[2] or 0) & _WRITING:
        heard.append(f"to write: {args[0]}")


@contextmanager
def untouched(path: Path) -> Generator[None]:
    """Insist that the block neither changes a log nor opens it, or a file beside it, to write."""
    _listen()
    heard: list[str] = []
    before = fingerprint(path.parent)
    _watched.append((str(path), heard))
    try:
        yield
    finally:
        _watched.pop()
    after = fingerprint(path.parent)

    assert heard == []
    assert {name: after.get(name) for name in before} == before


# -- what came out ------------------------------------------------------------------------------------


@dataclass
class Salvage:
    """A repair that was done."""

    good: Facts
    """What was in the log before the damage."""
    new: Facts
    path: Path
    report: RepairReport

    @property
    def markers(self) -> dict[int, dict[str, Any]]:
        """Seq → what an event in the place of lost ones says."""
        told = {seq: facts[1] for seq, facts in self.new.items() if facts[0] == MARKER and self.good.get(seq) != facts}
        return {seq: msgspec.json.decode(payload) for seq, payload in told.items() if CAUSE in payload}

    @property
    def lost(self) -> set[int]:
        """Seqs of events that were there and are not, or are no longer what they were."""
        return {seq for seq in self.good if seq not in self.new or seq in self.markers}

    @property
    def told(self) -> set[int]:
        """Seqs that the report says are lost."""
        return {seq for b in self.report.branches for first, last in b.seqs for seq in range(first, last + 1)}

    @property
    def unproven(self) -> set[int]:
        """Seqs that the report says were kept without a proof."""
        return {seq for branch in self.report.branches for seq in branch.unproven}


def salvage(good: Facts, bad: Path, into: Path, **options: Any) -> Salvage:
    """Repair a log; nothing but the new one may appear, and the damaged one may not even be opened to write."""
    others = {entry.name for entry in bad.parent.iterdir()}
    with untouched(bad):
        report = repair_log(bad, into, **options)

    assert {entry.name for entry in bad.parent.iterdir()} - others <= {into.name}
    assert into.stat().st_mode & 0o777 == 0o600
    return Salvage(good, facts_in(into), into, report)


def wrongs(found: Salvage, gone: set[int] | None = None, **options: Any) -> list[str]:
    """Return everything in which a repair is not as it should be. ``gone``: the seqs that it may lose, and must."""
    return [
        *(f"deep: {f.seq} {f.what}" for f in verify_log(found.path, Wish(deep=True), **options).findings),
        *_wrong_events(found),
        *_wrong_report(found),
        *([f"lost {sorted(found.lost)}, not {sorted(gone)}"] if gone is not None and found.lost != gone else []),
    ]


def _wrong_events(found: Salvage) -> list[str]:
    """Return where the new log says something else than the good one did."""
    kept = {seq: facts for seq, facts in found.new.items() if seq not in found.markers}
    in_doubt = any("its row and its index differ" in note for note in found.report.notes)
    changed = [
        seq
        for seq, facts in kept.items()
        if _proven(found.good.get(seq), in_doubt=in_doubt) != _proven(facts, in_doubt=in_doubt)
        and seq not in found.unproven
    ]
    stretches = [stretch for marker in found.markers.values() for stretch in marker["lost"]]
    on_record = {seq for first, last in stretches for seq in range(first, last + 1)} | set(found.markers)
    return [
        *(f"{seq} is not what it was" for seq in changed),
        *(f"{seq} is lost, and no event says so" for seq in sorted(found.lost - on_record)),
    ]


def _proven(facts: tuple[Any, ...] | None, *, in_doubt: bool) -> tuple[Any, ...]:
    """Return what a digest covers: not the names of run and branch, nor the class of the event."""
    return tuple(fact for place, fact in enumerate(facts or ()) if not in_doubt or place not in (2, 3, 5))


def _wrong_report(found: Salvage) -> list[str]:
    """Return where the report is not true."""
    report, kept = found.report, len(found.new) - len(found.markers)
    untold = found.lost - found.told
    lossless = not found.lost and not found.unproven and not report.contents_lost and not report.unaccounted
    lossless = lossless and {facts[2:4] for facts in found.good.values()} <= {
        facts[2:4] for facts in found.new.values()
    }
    return [
        *([f"{sorted(untold)} are lost and not told"] if len(untold) > report.unaccounted else []),
        *(f"{seq} is told as lost" for seq in sorted(found.told - found.lost)),
        *([f"{report.lost} lost, {len(found.told)} listed"] if report.lost != len(found.told) else []),
        *([f"{report.events} events, {kept} are there"] if report.events != kept else []),
        *(["said to be whole"] if report.ok and not lossless else []),
    ]
