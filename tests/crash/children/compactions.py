"""Processes that compact, or record while they compact, and are killed from outside at a chosen moment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import eventlog
from eventlog.append import Appender
from eventlog.compaction import archive, compact
from eventlog.compaction.draft import Draft
from eventlog.compaction.marking import Marking
from eventlog.compaction.sweep import unguarded
from tests.crash.children import killing

TEXT = "what was read on page {n} " * 30
RECORDED = 400


def rounds(folder: Path, *, case: str, moments: list[float | str], **options: Any) -> None:
    """Do a case in ``folder``/whole undisturbed, then in ``folder``/0, /1… killed at each moment.

    A moment is a fraction of the undisturbed duration, or the name of a function that is never entered.
    """
    whole_s = _round(folder / "whole", case, None, 0.0, options)
    for number, moment in enumerate(moments):
        point, fraction = (moment, 0.0) if isinstance(moment, str) else (None, moment)
        _round(folder / str(number), case, point, whole_s * fraction if point is None else None, options)
    killing.leave()


def _round(folder: Path, case: str, point: str | None, kill_s: float | None, options: dict[str, Any]) -> float:
    """Do a case in a process of its own; returns how long it took from when its log was open."""
    beside = killing.fork(lambda: note(folder)) if options.get("beside") else None
    code, took_s = killing.run(
        lambda begin: CASES[case](folder, point, begin, options), None if folder.name == "whole" else kill_s
    )
    (folder / "code").write_text(str(code))
    if beside is not None:
        (folder / "stop").touch()
        os.waitpid(beside, 0)
    return took_s


def _compact(folder: Path, point: str | None, begin: killing.Begin, options: dict[str, Any]) -> None:
    """Compact a log."""
    _die_at(point, options.get("bug"))
    with eventlog.open(folder / "log.db") as log:
        begin()
        log.compact(1, archive=folder / "old.db" if options.get("archive") else None)


def _record(folder: Path, point: str | None, begin: killing.Begin, options: dict[str, Any]) -> None:
    """Append to a log that compacts itself; each event that is in it is witnessed."""
    _die_at(point, options.get("bug"))
    with eventlog.open(folder / "log.db", max_checkpoints=1, compact_events=40, snapshot_on=("page.turned",)) as log:
        begin()
        _append(log, folder, lambda n: n < RECORDED)


def note(folder: Path) -> None:
    """Append until told to stop."""
    with eventlog.open(folder / "log.db") as log:
        _append(log, folder, lambda _: not (folder / "stop").exists())


def _append(log: eventlog.Log, folder: Path, goes_on: Callable[[int], bool]) -> None:
    """Append numbered events, some of them with a text of their own, some with one of all."""
    witness = os.open(folder / "witness", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for n in count():
        if not goes_on(n):
            return
        kind = "page.turned" if n % 20 == 19 else "page.read"
        log.append(kind, {"n": n, "text": TEXT.format(n=n if n % 2 else "?")}, run="noted")
        os.write(witness, f"{n}\n".encode())
        time.sleep(0.001)


CASES: dict[str, Callable[[Path, str | None, killing.Begin, dict[str, Any]], None]] = {
    "compact": _compact,
    "record": _record,
}


# -- where to die, and what to do wrong ------------------------------------------------------------------


def _die_at(point: str | None, bug: str | None) -> None:
    """Be killed instead of entering a function; put a bug in before it."""
    if point is not None:
        killing.die_instead(compact, point)
    if bug is not None:
        BUGS[bug]()


def _sweep_first() -> None:
    """Delete what goes before the base moves."""
    stages: Any = compact
    move = stages.move_base

    def wrong(appender: Appender, draft: Draft) -> None:
        with unguarded(appender.db):
            kept = ",".join(str(found[0]) for found in draft.retained)
            sql = f"DELETE FROM events WHERE branch = ? AND seq <= ? AND seq NOT IN ({kept})"
            appender.db.execute(sql, (draft.plan.row, draft.plan.cut))
        move(appender, draft)

    stages.move_base = wrong


def _archive_no_contents() -> None:
    """Archive the events, but let what they refer to be collected."""
    archive.Archive._reach = lambda *_: None  # type: ignore[method-assign]


def _archive_last() -> None:
    """Archive what goes when it has gone."""
    archive.Archive.take = lambda *_: None  # type: ignore[method-assign]


def _flag_first() -> None:
    """Say that all is swept before it is."""
    stages: Any = compact
    sweep = stages.sweep

    def wrong(pipeline: Any, *more: Any) -> int:
        pipeline.run_exclusively(compact._swept)
        return int(sweep(pipeline, *more))

    stages.sweep = wrong


def _collect_first() -> None:
    """Take everything for unused."""
    Marking.reach = lambda *_: []  # type: ignore[method-assign]


BUGS: dict[str, Callable[[], None]] = {
    "swept before the base moves": _sweep_first,
    "contents collected before they are archived": _archive_no_contents,
    "events never archived": _archive_last,
    "said to be swept before it is": _flag_first,
    "contents in use collected": _collect_first,
}
