"""``eventlog forget``: take a secret, or the payload of an event, out of a log."""

from __future__ import annotations

import getpass
import sys

import click

from eventlog.cli.options import Settings, examples, shared_options
from eventlog.cli.output import Facts, note, show_json, show_page
from eventlog.cli.text import count_of, size
from eventlog.errors import ForgetError, LogNotFoundError
from eventlog.forgetting.report import ForgetReport
from eventlog.log import open_log

_COPIES = "backups, exports, archives and other copies of the log still hold what they held"


@click.command(epilog=examples("eventlog forget --value-stdin < secret.txt", "eventlog forget --event 42 --dry-run"))
@click.option("--value-stdin", "from_stdin", is_flag=True, help="Read the secret from stdin; from a terminal, ask.")
@click.option("--event", metavar="ID", help="Empty the payload of this event: a seq, or an event id.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@shared_options
def forget(settings: Settings, *, from_stdin: bool, event: str | None, dry_run: bool) -> int:
    """Take a secret that slipped through, or the payload of one event, out of the log.

    A value is found in events, large values, names, bases and stored checkpoints, as it is, escaped,
    in a URL or in base64, and [redacted:forgotten] stands there instead. What is changed keeps its
    digest and gets a tombstone: eventlog verify tells forgetting from tampering. The file is rebuilt
    and its WAL truncated, so other programs should not use the log at the moment: one that has the
    value in its memory may record it anew. Give it to them as Redaction(values=...).

    An event keeps who, when and where. Large values that other events refer to as well stay, and so do
    copies of its texts in other events: for those, forget the text.

    Not found: a value split over two strings. Not touched: backups, exports, archives, other copies.
    """
    if from_stdin == (event is not None):
        raise click.UsageError("say what to forget: --value-stdin or --event ID, one of them")
    if not settings.db.exists():  # opening for writing would make it
        raise LogNotFoundError(str(settings.db))
    value = _read_value() if from_stdin else None
    with open_log(settings.db, readonly=dry_run) as log:
        report = log.forget(value=value, event=event, dry_run=dry_run)
    if settings.as_json:
        show_json(report)
    else:
        show_page([Facts(_facts(report))])
    _notes(report)
    return 0 if report.ok else 1


def _read_value() -> str:
    """Return one secret, without the line break at its end.

    Raises:
        ForgetError: stdin holds no text.
    """
    if sys.stdin is None:
        raise ForgetError("there is no stdin to read the value from")
    if sys.stdin.isatty():
        return getpass.getpass("Value to forget (not shown): ")
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise ForgetError("stdin holds no UTF-8 text") from None
    return text.removesuffix("\n").removesuffix("\r")


def _facts(report: ForgetReport) -> list[tuple[str, str]]:
    """Return what was found."""
    counts = [
        ("events", report.events),
        ("large values", report.contents),
        ("large values that others use", report.contents_kept),
        ("names and labels", report.names),
        ("bases", report.bases),
        ("checkpoints of CrewAI", report.documents),
        ("states to fold anew", report.snapshots),
    ]
    facts = [(name, str(number)) for name, number in counts if number or name == "events"]
    if not report.dry_run:
        facts.append(("file", f"{size(report.bytes_before)} -> {size(report.bytes_after)}"))
    return facts


def _notes(report: ForgetReport) -> None:
    """Say what a person should know beside the numbers."""
    for problem in report.unfinished:
        note(problem)
    if report.dry_run:
        note(f"dry run: nothing was changed; {count_of(report.found, 'row')} would be")
    elif report.event is None and not report.found:
        note(f"no event holds it any more, if one did; {_COPIES}")
    else:
        note(_COPIES)
