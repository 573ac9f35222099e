"""``eventlog backup``: a copy of the log while programs go on recording."""

from __future__ import annotations

from pathlib import Path

import click

from eventlog.backup import make_backup
from eventlog.cli.options import Settings, examples, shared_options
from eventlog.cli.output import Facts, note, show_json, show_page
from eventlog.cli.progress import phases
from eventlog.cli.text import count_of, size
from eventlog.cli.verify import chain_line
from eventlog.errors import LogDamagedError

DAMAGED = 3


@click.command(
    epilog=examples("eventlog backup monday.db", "eventlog backup /mnt/backups/$(date +%F).db --db nightly.db")
)
@click.argument("file", type=click.Path(path_type=Path))
@shared_options
def backup(settings: Settings, file: Path) -> int:
    """Copy the log to FILE, all of one moment, while others write to it, and verify the copy.

    FILE is private (0600), a log like any other, and complete or not there; one that exists is
    never overwritten. When the copy does not hold together, because the log does not, it is not
    kept: exit code 3. Keep the head that is printed elsewhere: eventlog verify --head.
    """
    try:
        with phases() as progress:
            made = make_backup(settings.db, file, progress)
    except LogDamagedError as error:
        note(f"Error: {error}")
        note("Hint: see what is damaged: eventlog verify; save what can be saved: eventlog repair --into NEW")
        return DAMAGED
    if settings.as_json:
        show_json(made)
        return 0
    report = made.verified
    checked = f"{count_of(report.events, 'event')}, {count_of(report.contents, 'content')}: the copy holds together"
    facts = [("backup", made.path), ("size", size(made.bytes)), ("verified", checked), ("chain", chain_line(report))]
    show_page([Facts([*facts, ("head", report.head)])])
    return 0
