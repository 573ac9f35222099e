"""``eventlog record``: run a program as python would, and capture it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import click

from eventlog.cli.options import Settings, examples, shared_options

if TYPE_CHECKING:
    from eventlog.cli.program import Program
    from eventlog.cli.recording import Recording
    from eventlog.pipeline import Durability


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog=examples(
        "eventlog record crew.py --its --args",
        "eventlog record --run nightly --db nightly.db -m my_project.main",
    ),
)
@click.option("-m", "as_module", is_flag=True, help="SCRIPT is the name of a module, as for python -m.")
@click.option("--run", "run", metavar="NAME", help="Name of the run. [default: from the script and the time]")
@click.option(
    "--durability", type=click.Choice(["commit", "fsync", "batch"]), default="commit", show_default=True,
    help="commit: safe from a kill; fsync: from power loss too; batch: fastest.",
)  # fmt: skip
@click.option(
    "--max-checkpoints", type=click.IntRange(min=0), metavar="N",
    help="Compact meanwhile: keep the newest N checkpoints of each branch. [default: keep everything]",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Leave out the line at the end.")
@click.argument("script")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@shared_options
def record(
    settings: Settings, as_module: bool, run: str | None, durability: Durability, max_checkpoints: int | None,
    quiet: bool, script: str, args: tuple[str, ...],
) -> Callable[[], None]:  # fmt: skip
    """Run SCRIPT unchanged, with ARGS, and record every CrewAI event as one run.

    Output, exit code and signals are the script's own. One line at the end, on stderr, says
    what was recorded. Options for eventlog come before SCRIPT.
    """
    from eventlog.cli.program import Program
    from eventlog.cli.recording import Recording

    program = Program(script, args, as_module=as_module)
    program.prepare()
    name = run or _mint_name(script, as_module=as_module)
    command = ["python", *(["-m"] if as_module else []), script, *args]
    recording = Recording(settings, name, durability, quiet=quiet, command=command, max_checkpoints=max_checkpoints)
    return partial(_run_recorded, program, recording)


def _run_recorded(program: Program, recording: Recording) -> None:
    """Run the program while it is recorded; the recording ends when the interpreter does."""
    recording.start()
    program.run()


def _mint_name(script: str, *, as_module: bool) -> str:
    """Return a name that says what ran and when: ``crew-20260115-101500-3f2a``."""
    stem = script if as_module else Path(script).resolve().stem
    stem = re.sub(r"[^\w.-]+", "-", stem).strip("-") or "script"
    return f"{stem}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid4().hex[:4]}"
