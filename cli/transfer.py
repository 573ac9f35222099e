"""``eventlog export`` and ``eventlog import``: runs as JSON Lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import mkstemp
from typing import BinaryIO

import click

from eventlog.cli.opening import find_place, reading
from eventlog.cli.options import Settings, examples, shared_options
from eventlog.cli.output import note, show_json
from eventlog.cli.progress import progress
from eventlog.cli.text import count_of, harmless_json
from eventlog.errors import EventLogError
from eventlog.lineage import steadily
from eventlog.log import open_log


class FileExistsHereError(EventLogError):
    """The export would overwrite a file."""

    hint = "choose another name, or overwrite it with --force"


@click.command(
    "export",
    epilog=examples(
        "eventlog export nightly -o nightly.jsonl",
        "eventlog export nightly --to 42 -o until-42.jsonl",
        "eventlog export --all -o - | gzip > log.jsonl.gz",
        "eventlog export --format crewai-checkpoint --to 42 -o checkpoint.json",
    ),
)
@click.argument("run", required=False)
@click.option("--all", "everything", is_flag=True, help="All runs, and the events of none.")
@click.option("--branch", help="Only this branch, with what it inherits. [default: all branches]")
@click.option("--to", metavar="ID", help="Only up to this event, of --branch or main.")
@click.option("--format", "form", type=click.Choice(["jsonl", "crewai-checkpoint"]), default="jsonl", show_default=True)
@click.option("-o", "--output", required=True, metavar="FILE", help="Where to; - is stdout.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@shared_options
def export_events(
    settings: Settings, run: str | None, everything: bool, branch: str | None, to: str | None, form: str,
    output: str, force: bool,
) -> None:  # fmt: skip
    """Write RUN to a file, one event a line, large values filled in.

    The file is private (0600) and complete or not there. Secrets were taken out when the
    events were recorded. With --json, a summary goes to stdout.

    crewai-checkpoint writes the state at --to (by default: the newest event) as a file that
    CrewAI's Crew.from_checkpoint, Flow.from_checkpoint and Agent.from_checkpoint restore.
    """
    if form == "crewai-checkpoint":
        if everything:
            raise click.UsageError("a checkpoint is of one run: --all makes no sense here")
        _export_checkpoint(settings, run, branch, to, output, force=force)
        return
    if (run is None) != everything:
        raise click.UsageError("name a RUN, or say --all")
    if everything and (branch or to):
        raise click.UsageError("--branch and --to need RUN")
    from eventlog.transfer.exports import export_lines

    with reading(settings) as log:
        total = sum(info.events for info in log.runs() if run in (None, info.run))

        def write() -> int:
            lines = export_lines(log, None if run is None else [run], branch=branch, to=to)
            return _write(_followed(lines, total), output, force=force)

        count = write() if output == "-" else steadily(write)  # what went to stdout cannot be taken back
    if settings.as_json and output != "-":
        show_json({"run": run, "events": count, "path": output})
    else:
        note(f"exported {count_of(count, 'event')} → {output}")


def _export_checkpoint(
    settings: Settings, run: str | None, branch: str | None, to: str | None, output: str, *, force: bool
) -> None:
    """Write one cursor as CrewAI's JSON provider would."""
    from eventlog.transfer.checkpoints import checkpoint_document

    with reading(settings) as log:
        place = find_place(log, run, branch, to)
        document = checkpoint_document(log, place.run, place.branch, place.seq)
    _write([document.encode()], output, force=force)
    if settings.as_json and output != "-":
        show_json({"run": place.run, "branch": place.branch, "seq": place.seq, "path": output})
    else:
        note(f"exported {place.run}/{place.branch}@{place.seq} → {output}")


def _followed(lines: Iterator[bytes], total: int) -> Iterator[bytes]:
    """Yield lines and show how far we are."""
    with progress("exporting", total) as advance:
        for line in lines:
            advance()
            yield line


def _write(lines: Iterable[bytes], output: str, *, force: bool) -> int:
    """Write all lines, or nothing, and return how many events they are: the header is none."""
    if output == "-":
        return _copy((harmless_json(line.decode()).encode() for line in lines), sys.stdout.buffer)
    target = Path(output)
    if os.path.lexists(target) and not force:
        raise FileExistsHereError(f"{output}: there is such a file already")
    if not target.parent.is_dir():
        raise click.UsageError(f"can't write {output!r}: there is no such folder")
    if target.exists() and not target.is_file():  # a device would become a file
        raise click.UsageError(f"can't write {output!r}: it is not a regular file")
    number, name = mkstemp(prefix=f".{target.name}.", dir=target.parent)  # readable for its owner only
    try:
        with os.fdopen(number, "wb") as file:
            count = _copy(lines, file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink()
        raise
    return count


def _copy(lines: Iterable[bytes], file: BinaryIO) -> int:
    """Write lines to a file and return how many events they are."""
    count = -1
    for count, line in enumerate(lines):  # noqa: B007 - used after the loop
        file.write(line)
    file.flush()
    return max(0, count)


@click.command(
    "import",
    epilog=examples("eventlog import nightly.jsonl", "eventlog import nightly.jsonl --as nightly-copy --db other.db"),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as", "rename", metavar="NAME", help="Name of the run in this log, if the file holds one run.")
@shared_options
def import_events(settings: Settings, file: Path, rename: str | None) -> None:
    """Append the runs of an exported FILE.

    Events keep their ids and get new seqs; those that are here already are left as they are,
    so importing twice is importing once. A wrong line is told before anything is written.
    """
    from eventlog.transfer.check import check_file
    from eventlog.transfer.imports import import_file

    if not settings.db.exists():
        check_file(None, file, rename=rename)  # a wrong file does not make a log
    with open_log(settings.db) as log, progress("importing", None) as advance:
        results = import_file(log, file, rename=rename, on_event=advance)
    if settings.as_json:
        show_json(results)
        return
    for result in results:
        name = f"run {result.run}" if result.run is not None else "events of no run"
        here = f", {result.events - result.new} were here already" if result.new < result.events else ""
        note(f"imported {name}: {count_of(result.new, 'event')}{here}")
