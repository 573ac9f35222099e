"""``eventlog verify``: does the log hold together?"""

from __future__ import annotations

from pathlib import Path

import click

from eventlog.cli.options import Settings, examples, shared_options
from eventlog.cli.output import Block, Facts, Prose, Table, note, show_json, show_page
from eventlog.cli.progress import progress
from eventlog.cli.text import count_of, one_line
from eventlog.verifying.heads import HeadFormatError
from eventlog.verifying.report import Finding, VerifyReport
from eventlog.verifying.verify import Wish, verify_log

SOUND, DAMAGED = 0, 3


@click.command(
    epilog=examples(
        "eventlog verify",
        "eventlog verify --json | jq -r .head > head.txt",
        "eventlog verify --head @head.txt",
        "eventlog verify nightly --deep",
    )
)
@click.argument("run", required=False)
@click.option("--deep", is_flag=True, help="Also fold every stored state again and let SQLite compare its indexes.")
@click.option("--head", metavar="HEAD", help="The head an earlier verify printed, or @FILE that holds it.")
@shared_options
def verify(settings: Settings, run: str | None, deep: bool, head: str | None) -> int:
    """Check the whole log, or RUN: chains, contents, branches, bases, stored states, the file itself.

    Without a key it finds accidental damage; with EVENTLOG_KEY, set when the log was made and
    now, tampering too. A cut tail shows only against a head kept elsewhere (--head).

    The file is only read. Exit code 3 when something is damaged: the first bad seq is named
    first, then what is still readable. See eventlog repair for what to do.
    """
    wish = Wish(deep=deep, head=_head(head), run=run)
    try:
        with progress("verifying", None) as advance:
            report = verify_log(settings.db, wish, on_step=advance)
    except HeadFormatError as error:
        raise click.UsageError(f"--head: {error}; {error.hint}") from error
    if settings.as_json:
        show_json(report)
    else:
        show_page(verify_page(report))
        _notes(report)
    return SOUND if report.ok else DAMAGED


def _head(given: str | None) -> str | None:
    """Return the head as text: given, or in a file.

    Raises:
        click.UsageError: the file cannot be read.
    """
    if given is None or not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text("utf-8", "replace").strip()
    except OSError as error:
        raise click.UsageError(f"--head: {given[1:]}: {error.strerror}") from error


def verify_page(report: VerifyReport) -> list[Block]:
    """Return a report for people."""
    facts = [
        ("verdict", "the log holds together" if report.ok else _verdict(report)),
        ("checked", _checked(report)),
        ("chain", chain_line(report)),
        ("head", report.head),
    ]
    columns = ("seq", "run", "branch", "kind", "what", "readable")
    rows = [_row(finding) for finding in report.findings]
    return [
        Facts([fact for fact in facts if fact[1]]),
        Table("damage", columns, rows, ("seq",)),
        Prose("still readable", "\n".join(one_line(line, 300) for line in report.readable)),
    ]


def _verdict(report: VerifyReport) -> str:
    """Return what is wrong in a line."""
    count = count_of(len(report.findings) + report.more, "finding")
    return f"DAMAGED: {count}" + (f", first at seq {report.first_bad_seq}" if report.first_bad_seq is not None else "")


def _checked(report: VerifyReport) -> str:
    """Return how much was looked at."""
    states = "folded again" if report.deep else "read"
    parts = (count_of(report.events, "event"), count_of(report.contents, "content"))
    return f"{', '.join(parts)}, {count_of(report.snapshots, 'stored state')} {states}"


def chain_line(report: VerifyReport) -> str:
    """Return what a check with this key, or without one, can find."""
    if not report.keyed:
        return "without a key: finds accidental damage, not tampering"
    if report.key_checked:
        return "with EVENTLOG_KEY: finds tampering, too"
    return "made with a key, and EVENTLOG_KEY is not set: digests were not checked, contents and structure were"


def _row(finding: Finding) -> tuple[str, ...]:
    """Return a finding as a row."""
    seq = "" if finding.seq is None else str(finding.seq)
    run, branch = one_line(finding.run, 40), one_line(finding.branch, 40)
    return seq, run, branch, finding.kind, one_line(finding.what, 160), one_line(finding.readable, 100)


def _notes(report: VerifyReport) -> None:
    """Say what a person should know beside the findings."""
    for text in report.notes:
        note(text)
    if report.more:
        note(f"{report.more} more findings are not listed")
    if report.head:
        note("a cut tail shows only against a head kept elsewhere: eventlog verify --head HEAD")
    if not report.ok:
        note("save what can be saved into a new log: eventlog repair --into NEW")
