"""``eventlog compact``: drop old events, keep everything that is still needed."""

from __future__ import annotations

import re
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import click

from eventlog.cli.options import Settings, examples, shared_options
from eventlog.cli.output import Facts, Table, note, show_json, show_page
from eventlog.cli.progress import phases
from eventlog.cli.text import count_of, size
from eventlog.compaction.report import BranchCompaction, CompactionReport
from eventlog.errors import EventLogError, LogNotFoundError
from eventlog.log import open_log

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Age(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases only
    """A duration such as ``7d``."""

    name = "age"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the duration."""
        if isinstance(value, timedelta):
            return value
        found = _AGE.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r}: write a number and s, m, h, d or w, e.g. 7d", param, ctx)
        try:
            return timedelta(seconds=float(found[1]) * _SECONDS[found[2]])
        except OverflowError:
            self.fail(f"{value!r} is longer than time can be counted", param, ctx)


@click.command(
    epilog=examples(
        "eventlog compact --max-checkpoints 5 --dry-run",
        "eventlog compact nightly --max-checkpoints 1 --archive old.db",
        "eventlog compact --max-checkpoints 3 --older-than 7d",
    )
)
@click.argument("run", required=False)
@click.option(
    "--max-checkpoints", type=click.IntRange(min=0), required=True, metavar="N",
    help="Keep the newest N checkpoints of each branch, and everything after the oldest of them.",
)  # fmt: skip
@click.option(
    "--older-than", type=Age(), metavar="AGE", help="Only runs that have been quiet for so long: 90m, 7d, 2w."
)
@click.option("--archive", type=click.Path(path_type=Path), metavar="FILE", help="Move the events there: a log itself.")
@click.option("--keep-tape", is_flag=True, help="Keep what replay --execute needs; frees less.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option(
    "--import", "modules", multiple=True, metavar="MODULE",
    help="Import a module that registers projections: their states are settled at the cut.",
)  # fmt: skip
@shared_options
def compact(
    settings: Settings, run: str | None, max_checkpoints: int, older_than: timedelta | None, archive: Path | None,
    keep_tape: bool, dry_run: bool, modules: tuple[str, ...],
) -> int:  # fmt: skip
    """Drop the early events of RUN (default: of all runs) and give the space back.

    States, resuming and forks from the oldest kept checkpoint on stay what they are. Earlier
    cursors, and replay --execute without --keep-tape, say afterwards that their events are gone.
    A branch without checkpoints is cut at its end, or after its last task or method if it is
    unfinished. Programs may go on recording meanwhile.
    """
    for module in modules:
        _import(module)
    if not settings.db.exists():  # opening for writing would make it
        raise LogNotFoundError(str(settings.db))
    with open_log(settings.db) as log, phases() as progress:
        report = log.compact(
            max_checkpoints, run=run, older_than=older_than, archive=archive, keep_tape=keep_tape, dry_run=dry_run,
            progress=progress,
        )  # fmt: skip
    if settings.as_json:
        show_json(report)
    else:
        show_page(_page(report))
        _notes(report)
    return 0 if report.ok else 1


def _import(module: str) -> None:
    """Import a module of the user's."""
    try:
        import_module(module)
    except Exception as error:
        raise EventLogError(f"--import {module}: {type(error).__name__}: {error}") from error


def _page(report: CompactionReport) -> list[Facts | Table]:
    """Return the report for people."""
    rows = [_row(branch) for branch in report.branches]
    columns = ("run", "branch", "begins at", "events", "kept of them", "checkpoints")
    title = "would be dropped" if report.dry_run else "dropped"
    return [Table(title, columns, rows, ("begins at", "events", "kept of them", "checkpoints")), Facts(_sums(report))]


def _row(branch: BranchCompaction) -> tuple[str, ...]:
    """Return one branch as a row."""
    counts = (branch.cut, branch.dropped, branch.retained, branch.checkpoints)
    return (branch.run, branch.branch, *(map(str, counts) if not branch.problem else ("-",) * len(counts)))


def _sums(report: CompactionReport) -> list[tuple[str, str]]:
    """Return what the file holds before and after."""
    if report.dry_run:
        return [("file", size(report.bytes_before)), ("events", str(report.events_before))]
    return [
        ("file", f"{size(report.bytes_before)} -> {size(report.bytes_after)}"),
        ("events", f"{report.events_before} -> {report.events_after}"),
        ("large values", f"{report.contents_before} -> {report.contents_after}"),
        *([("archive", report.archive)] if report.archive else []),
    ]


def _notes(report: CompactionReport) -> None:
    """Say what a person should know beside the numbers."""
    for branch in report.branches:
        if branch.problem:
            note(branch.problem)
    if not report.branches:
        note("nothing to drop: no branch has events before the checkpoints that are kept")
    elif report.dry_run:
        note(f"dry run: nothing was changed; {count_of(sum(b.dropped for b in report.branches), 'event')} would go")
