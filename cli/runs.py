"""``eventlog runs``: what is in a log."""

from __future__ import annotations

from typing import Any

import click

from eventlog.cli.opening import reading
from eventlog.cli.options import Settings, examples, shared_options
from eventlog.cli.output import Table, note, show_json, show_page
from eventlog.cli.text import moment, one_line
from eventlog.record import RunInfo
from eventlog.replay.state import iso_utc


@click.command(epilog=examples("eventlog runs", "eventlog runs --db nightly.db --json"))
@shared_options
def runs(settings: Settings) -> None:
    """List the runs, oldest first.

    A run that did not end and whose process is gone is interrupted. Times are UTC.
    """
    with reading(settings) as log:
        found = log.runs()
    if settings.as_json:
        show_json([_as_json(run) for run in found])
    elif not found:
        note(f"{settings.db}: no runs yet")
    else:
        columns = ("run", "status", "kind", "name", "events", "started", "updated")
        show_page([Table("", columns, [_row(run) for run in found], right=("events",))])


def _row(run: RunInfo) -> tuple[str, ...]:
    """Return a row for people."""
    start, last = (moment(at)[:19] for at in (run.started_at_ns, run.updated_at_ns))
    return (run.run, run.status, run.kind or "", one_line(run.name, 40), str(run.events), start, last)


def _as_json(run: RunInfo) -> dict[str, Any]:
    """Return an object for programs."""
    return {
        "run": run.run,
        "status": run.status,
        "kind": run.kind,
        "name": run.name,
        "events": run.events,
        "branches": run.branches,
        "executions": run.executions,
        "started_at": None if run.started_at_ns is None else iso_utc(run.started_at_ns),
        "updated_at": None if run.updated_at_ns is None else iso_utc(run.updated_at_ns),
        "attribution": run.attribution,
    }
