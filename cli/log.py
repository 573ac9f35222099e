"""``eventlog log``: the events, one line each, or as they come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import click
import msgspec

from eventlog.cli.grep import Grep
from eventlog.cli.lines import EventLine
from eventlog.cli.opening import reading
from eventlog.cli.options import Settings, examples, shared_options
from eventlog.cli.output import flush, note, write_json_line, write_line
from eventlog.log import Log
from eventlog.read import Reader
from eventlog.record import MAIN_BRANCH, StoredEvent

POLL_S = 0.15
TAIL_WINDOW = 1_000
"""Seqs looked at first for ``--tail``; four times as many whenever that was not enough."""


class Wanted(msgspec.Struct, frozen=True):
    """Which events to show."""

    branch: int | None
    """Row of a branch; ``None``: of the whole log."""
    types: tuple[str, ...] | None
    after: int
    grep: Grep | None = None

    def of(self, reader: Reader, after: int) -> Iterator[StoredEvent]:
        """Yield them after a seq."""
        events = reader.stored(self.branch, after, types=self.types)
        return events if self.grep is None else self.grep.matching(events)


@click.command(
    epilog=examples(
        "eventlog log",
        "eventlog log nightly --type 'task_*' --type llm_call_failed",
        "eventlog log nightly --tail 20 --paths",
        "eventlog log --tail 0 --follow",
        "eventlog log nightly --json | jq -r 'select(.type == \"llm_call_completed\") | .payload.response'",
    )
)
@click.argument("run", required=False)
@click.option("--branch", help=f"A branch of RUN, with what it inherits. [default: {MAIN_BRANCH}]")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only this type; * stands for anything.")
@click.option("--grep", metavar="TEXT", help="Only events that hold this text; case does not count.")
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="SEQ", help="Only events after this one.")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N of these; with --follow, end then."
)
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N.")
@click.option("-f", "--follow", is_flag=True, help="Go on with events as they are recorded, until Ctrl-C.")
@click.option("--paths", is_flag=True, help="Show where in the call tree each event stands.")
@shared_options
def log(
    settings: Settings, run: str | None, branch: str | None, types: tuple[str, ...], grep: str | None,
    after: int, limit: int | None, tail: int | None, follow: bool, paths: bool,
) -> None:  # fmt: skip
    """List the events of RUN, or of the whole log, oldest first. Times are UTC.

    With --json each line is one event with its whole payload (JSON Lines).
    """
    if branch is not None and run is None:
        raise click.UsageError("--branch needs RUN")
    with reading(settings) as opened:
        row = None if run is None else opened.reader.branch_id(run, branch or MAIN_BRANCH)
        wanted = Wanted(row, types or None, after, None if grep is None else Grep(grep, opened.reader.content))
        if tail is not None:
            wanted = msgspec.structs.replace(wanted, after=_before_last(opened.reader, wanted, tail))
        show = _json_writer(opened) if settings.as_json else _text_writer(opened, whole=run is None, paths=paths)
        shown = show_events(opened.reader, wanted, show, limit=limit, follow=follow)
    if not shown and not settings.as_json:
        note("no events match" if types or after or grep else f"{settings.db}: no events yet")


def show_events(reader: Reader, wanted: Wanted, show: Any, *, limit: int | None, follow: bool) -> int:
    """Show events until the end, or the limit, or (``follow``) for ever; returns how many."""
    shown = 0
    events = _following(reader, wanted) if follow else wanted.of(reader, wanted.after)
    for event in events:
        show(event)
        shown += 1
        if shown == limit:
            break
    return shown


def _following(reader: Reader, wanted: Wanted) -> Iterator[StoredEvent]:
    """Yield what is there, then what other processes add."""
    last, version = wanted.after, None
    while True:
        now = reader.query("PRAGMA data_version")[0][0]
        if now == version:
            time.sleep(POLL_S)
            continue
        version = now
        for event in wanted.of(reader, last):
            last = event.seq
            yield event
        flush()


def _before_last(reader: Reader, wanted: Wanted, count: int) -> int:
    """Return the seq after which the last ``count`` events stand."""
    head = reader.query("SELECT coalesce(max(seq), 0) FROM events")[0][0]
    if count == 0:
        return int(head)
    window = max(TAIL_WINDOW, count)
    while True:
        start = max(wanted.after, head - window)
        seqs = [event.seq for event in wanted.of(reader, start)][-count:]
        if len(seqs) == count or start == wanted.after:
            return seqs[0] - 1 if seqs else head
        window *= 4


def _json_writer(opened: Log) -> Any:
    """Return what writes an event as one line of JSON, everything filled in."""

    def write(event: StoredEvent) -> None:
        for whole in opened.reader.decoded([event]):
            write_json_line(whole)

    return write


def _text_writer(opened: Log, *, whole: bool, paths: bool) -> Any:
    """Return what writes an event as one line for people."""
    line = EventLine(opened.reader.content, with_run=whole, with_path=paths)
    return lambda event: write_line(line.of(event))
