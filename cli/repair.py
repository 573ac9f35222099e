"""``eventlog repair --into NEW``: save what a damaged log still holds into a new one."""

from __future__ import annotations

from pathlib import Path

import click

from eventlog.cli.options import Settings, examples, shared_options
from eventlog.cli.output import Block, Facts, Table, note, show_json, show_page
from eventlog.cli.progress import phases
from eventlog.cli.text import count_of, one_line
from eventlog.repair.repair import repair_log
from eventlog.repair.report import BranchSalvage, LostValue, RepairReport

WHOLE, LOSSES = 0, 3
STRETCHES_SHOWN = 5
SEQS_SHOWN = 8


@click.command(epilog=examples("eventlog repair --into saved.db", "eventlog repair --db old.db --into new.db --json"))
@click.option("--into", required=True, metavar="NEW", type=click.Path(path_type=Path), help="The new log.")
@shared_options
def repair(settings: Settings, into: Path) -> int:
    """Save every verifiable event of a damaged log into NEW, and say what is lost.

    The damaged file is only read, page by page: a page that is gone hides no other. Stop the
    programs that write to it first. NEW is private, holds together, keeps seqs, digests, runs,
    branches and forks, and can be gone on with: eventlog resume RUN --db NEW.

    Where events are lost, an event eventlog.capture_gap says so. The event after a lost one
    cannot be proven: it is kept and named, unless the log has a key (EVENTLOG_KEY, which must
    be set then): with a key only what is proven is kept. An event whose text is lost is kept;
    a tag $lost stands for the text, and is never served as an answer: the model is asked again.
    A compacted branch keeps the state it begins with if its proof holds; else it begins with
    the events that are left. An encrypted log needs its key (EVENTLOG_CIPHER_KEY), and NEW is
    encrypted with it.

    Exit code 3 when something is lost, 0 when nothing is.
    """
    with phases() as progress:
        report = repair_log(settings.db, into, progress=progress)
    if settings.as_json:
        show_json(report)
    else:
        show_page(_page(report))
        _notes(report)
    return WHOLE if report.ok else LOSSES


def _page(report: RepairReport) -> list[Block]:
    """Return the report for people."""
    facts = [
        ("into", report.into),
        ("saved", f"{count_of(report.events, 'event')}, {count_of(report.contents, 'large value')}"),
        ("lost", "nothing" if report.ok else _lost(report)),
        ("verified", "the new log holds together"),
    ]
    columns = ("run", "branch", "saved", "lost", "at seq", "why")
    rows = [_row(branch) for branch in report.branches]
    values = [_value(value) for value in report.values]
    return [
        Facts(facts),
        Table("branches", columns, rows, ("saved", "lost")),
        Table("lost values", ("hash", "first at seq", "events"), values, ("first at seq", "events")),
    ]


def _lost(report: RepairReport) -> str:
    """Return what is lost in a line."""
    parts = [
        count_of(report.lost, "event") if report.lost else "",
        f"{report.unaccounted} missing seqs that nobody knows" if report.unaccounted else "",
        count_of(report.names_lost, "name") if report.names_lost else "",
        count_of(report.contents_lost, "large value") if report.contents_lost else "",
        f"the proof of {count_of(report.unproven, 'event')}" if report.unproven else "",
        "the proof of a base" if any(branch.base for branch in report.branches) else "",
    ]
    return ", ".join(part for part in parts if part)


def _row(branch: BranchSalvage) -> tuple[str, ...]:
    """Return a branch as a row."""
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in branch.seqs[:STRETCHES_SHOWN]]
    seqs = ", ".join(shown) + (", …" if len(branch.seqs) > STRETCHES_SHOWN else "")
    why = [*branch.reasons, *([branch.base] if branch.base else [])]
    if branch.unproven:
        listed = ", ".join(map(str, branch.unproven[:SEQS_SHOWN])) + (
            ", …" if len(branch.unproven) > SEQS_SHOWN else ""
        )
        why.append(f"kept, though nothing proves it: {listed}")
    name = one_line(branch.run, 40) if branch.run is not None else "(no run)"
    return name, one_line(branch.branch, 40), str(branch.kept), str(branch.lost), seqs, one_line("; ".join(why), 200)


def _value(value: LostValue) -> tuple[str, ...]:
    """Return a lost value as a row."""
    return value.hash, "" if value.seq is None else str(value.seq), str(value.events)


def _notes(report: RepairReport) -> None:
    """Say what a person should know beside the numbers."""
    for text in report.notes:
        note(text)
    note(f"the damaged log was left as it is: {report.path}")
