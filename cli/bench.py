"""``eventlog bench``: what durability costs on this disk."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from eventlog.cli.options import Settings, examples, shared_options
from eventlog.cli.output import Block, Facts, Table, show_json, show_page
from eventlog.cli.progress import progress
from eventlog.errors import LogUnwritableError

if TYPE_CHECKING:
    from eventlog.cli.disk import Cost

EVENTS_MIN = 20
ENDINGS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
SURVIVES = {
    "commit": "a killed process loses nothing; a power cut may take the last moments",
    "fsync": "a power cut loses nothing either, as far as the disk keeps its word",
    "batch": "a killed process loses the last 20 ms",
}


class Report(msgspec.Struct, frozen=True):
    """What was measured, and where."""

    folder: str
    file_system: str
    sqlite: str
    kilobytes: float
    """Of text in an event."""
    costs: list[Cost]


def _a_number(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    """Refuse what is no number: a range does not."""
    if math.isnan(value):
        raise click.BadParameter("nan is not a number.")
    return value


@click.command(
    epilog=examples(
        "eventlog bench", "eventlog bench --db /mnt/logs/eventlog.db --events 2000", "eventlog bench --json"
    )
)
@click.option(
    "--events",
    type=click.IntRange(min=EVENTS_MIN),
    default=1_000,
    show_default=True,
    help="How many in each mode; rounded up to tens.",
)
@click.option(
    "--kilobytes", type=click.FloatRange(0.1, 1_000), default=3.0, show_default=True, callback=_a_number,
    help="Of text in an event.",
)  # fmt: skip
@shared_options
def bench(settings: Settings, events: int, kilobytes: float) -> None:
    """Measure what an event costs in each durability mode, on the disk where the log is to be.

    Real events are captured in logs of their own, in the folder of the log or in the folder given; they are taken away
    again. The log itself is not touched.
    """
    os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")
    report = _measure(_folder(settings.db.absolute()), events, kilobytes)
    if settings.as_json:
        show_json(report)
    else:
        show_page(_page(report))


def _folder(path: Path) -> Path:
    """Return the folder to measure in.

    Raises:
        LogUnwritableError: no log can be there.
    """
    if path.is_dir():
        return path
    if path.exists() and not path.is_file():
        raise LogUnwritableError(str(path), "not a regular file")
    return path.parent


def _measure(folder: Path, events: int, kilobytes: float) -> Report:
    """Measure in a folder.

    Raises:
        LogUnwritableError: nothing can be written there.
    """
    import sqlite3

    from eventlog.cli.checks import file_system_of
    from eventlog.cli.disk import measure, steps

    try:
        with _taking_leave(), progress(f"measuring in {folder}", steps()) as step:
            costs = measure(folder, events, int(kilobytes * 1000), step)
    except OSError as error:
        raise LogUnwritableError(str(folder), error.strerror or str(error)) from error
    return Report(str(folder), file_system_of(folder) or "unknown", sqlite3.sqlite_version, kilobytes, costs)


@contextmanager
def _taking_leave() -> Iterator[None]:
    """Let signals that end the process do so by way of every ``finally``: what was made is taken away."""

    def leave(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    former = {number: signal.signal(number, leave) for number in ENDINGS}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _page(report: Report) -> list[Block]:
    """Return the page for people."""
    numbers = ("p50", "p95", "p99", "longest", "beside a bare insert")
    rows = [
        (
            cost.name,
            *(_time(value) for value in (cost.p50_us, cost.p95_us, cost.p99_us, cost.longest_us)),
            f"{cost.beside_bare:g} x",
        )
        for cost in report.costs
    ]
    where = f"{report.folder} ({report.file_system}), SQLite {report.sqlite}"
    facts = [("folder", where), ("an event", f"{report.kilobytes:g} KB of text"), *SURVIVES.items()]
    return [Table("", ("mode", *numbers), rows, right=numbers), Facts(facts)]


def _time(microseconds: float) -> str:
    """Return a short time."""
    return f"{microseconds:.0f} µs" if microseconds < 10_000 else f"{microseconds / 1000:.1f} ms"
