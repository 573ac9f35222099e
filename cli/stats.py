"""``eventlog stats``: what takes the time, the tokens and the space."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from eventlog.cli.opening import reading
from eventlog.cli.options import Settings, examples, shared_options
from eventlog.cli.output import Block, Facts, Table, show_json, show_page
from eventlog.cli.tally import Sum, tally, total
from eventlog.cli.text import one_line, seconds, size
from eventlog.log import Log
from eventlog.record import MAIN_BRANCH


class Storage(msgspec.Struct, kw_only=True):
    """What the whole log takes on the disk."""

    file_bytes: int
    wal_bytes: int
    """Written and not yet moved into the file."""
    runs: int
    contents: int
    content_bytes: int
    """Large values, each kept once."""
    snapshots: int
    snapshot_bytes: int


@click.command(
    epilog=examples("eventlog stats", "eventlog stats nightly --by model", "eventlog stats --by type --json")
)
@click.argument("run", required=False)
@click.option("--branch", help=f"A branch of RUN. [default: {MAIN_BRANCH}]")
@click.option(
    "--by", type=click.Choice(["type", "task", "agent", "model"]), default="type", show_default=True,
    help="What to group the events by.",
)  # fmt: skip
@shared_options
def stats(settings: Settings, run: str | None, branch: str | None, by: str) -> None:
    """Count the events, bytes, calls, tokens and time of RUN, or of the whole log."""
    if branch is not None and run is None:
        raise click.UsageError("--branch needs RUN")
    with reading(settings) as log:
        row = None if run is None else log.reader.branch_id(run, branch or MAIN_BRANCH)
        sums = tally(log.reader.stored(row), by)
        storage = _storage(log)
    sums.sort(key=lambda s: (-s.tokens, -s.busy_ns, -s.events))
    if settings.as_json:
        show_json({"run": run, "by": by, "groups": sums, "total": total(sums), "storage": storage})
    else:
        show_page(_page(sums, storage, by))


def _storage(log: Log) -> Storage:
    """Measure the file."""
    reader = log.reader
    contents = reader.query("SELECT count(*), coalesce(sum(length(CAST(body AS BLOB))), 0) FROM contents")[0]
    snapshots = reader.query("SELECT count(*), coalesce(sum(length(CAST(state AS BLOB))), 0) FROM snapshots")[0]
    return Storage(
        file_bytes=_bytes_of(log.path),
        wal_bytes=_bytes_of(Path(f"{log.path}-wal")),
        runs=len(log.runs()),
        contents=contents[0],
        content_bytes=contents[1],
        snapshots=snapshots[0],
        snapshot_bytes=snapshots[1],
    )


def _bytes_of(path: Path) -> int:
    """Return the size of a file, zero when there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _page(sums: list[Sum], storage: Storage, by: str) -> list[Block]:
    """Return the page for people."""
    numbers = ("events", "payloads", "calls", "tokens", "time")
    rows = [_row(row) for row in sums]
    facts = [
        ("file", f"{size(storage.file_bytes)}, and {size(storage.wal_bytes)} in its WAL"),
        ("large values", f"{storage.contents}, {size(storage.content_bytes)}"),
        ("snapshots", f"{storage.snapshots}, with {size(storage.snapshot_bytes)} of states"),
        ("runs", str(storage.runs)),
    ]
    return [Table("", (by, *numbers), [*rows, _row(total(sums))] if rows else [], right=numbers), Facts(facts)]


def _row(row: Sum) -> tuple[str, ...]:
    """Return one group."""
    calls, tokens = (str(n) if n else "" for n in (row.llm_calls, row.tokens))
    time = seconds(row.busy_ns) if row.busy_ns else ""
    return (one_line(row.name, 50), str(row.events), size(row.payload_bytes), calls, tokens, time)
