"""``eventlog resume``: start a program again, and let it go on where its run was interrupted."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from eventlog.cli.opening import reading
from eventlog.cli.options import Settings, examples, shared_options
from eventlog.cli.output import Facts, Table, show_json, show_page
from eventlog.cli.text import count_of, one_line
from eventlog.errors import RunBusyError
from eventlog.record import MAIN_BRANCH

if TYPE_CHECKING:
    from eventlog.cli.program import Program
    from eventlog.cli.resuming import Resuming
    from eventlog.log import Log
    from eventlog.pipeline import Durability
    from eventlog.replay.state import RunState


@click.command(
    epilog=examples(
        "eventlog resume nightly",
        "eventlog resume nightly -- python crew.py --its --args",
        "eventlog resume nightly --branch cheaper -- -m my_project.main",
    ),
)
@click.option("--branch", default=MAIN_BRANCH, show_default=True, help="A branch of RUN.")
@click.option(
    "--on-change", type=click.Choice(["adapt", "strict", "lenient"]), default="adapt", show_default=True,
    help="When the code was edited. adapt: go live from the first difference; strict: stop there;"
    " lenient: take recorded answers by position.",
)  # fmt: skip
@click.option(
    "--on-tool", type=click.Choice(["rerun", "ask", "fail"]), default="rerun", show_default=True,
    help="For tools that were under way when the process ended.",
)  # fmt: skip
@click.option("--takeover", is_flag=True, help="Take the run from another process that works on it.")
@click.option(
    "--durability", type=click.Choice(["commit", "fsync", "batch"]), default="commit", show_default=True,
    help="commit: safe from a kill; fsync: from power loss too; batch: fastest.",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Leave out the line at the end.")
@click.argument("run")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@shared_options
def resume(
    settings: Settings, branch: str, on_change: str, on_tool: str, takeover: bool, durability: Durability,
    quiet: bool, run: str, command: tuple[str, ...],
) -> Callable[[], None] | None:  # fmt: skip
    """Run COMMAND so that its crews, flows and agents go on where RUN was interrupted.

    COMMAND is a Python program, e.g. python crew.py, or -m MODULE. Its plain kickoffs are matched
    with what is recorded: finished ones return their result, unfinished ones go on, and no
    recorded model call or tool is repeated. What the program does between kickoffs runs again.

    Without COMMAND, shows how far RUN got and the recorded command to copy; nothing found in a
    log is ever run.
    """
    with reading(settings) as log:
        state = log.state(run, branch=branch)
        if not command:
            _show(settings, log, state)
            return None
        if state.status == "running" and not takeover:
            raise RunBusyError(run, "a process that is still alive")
    from eventlog.cli.command import program_of
    from eventlog.cli.resuming import Resuming

    program = program_of(command)
    program.prepare()
    resuming = Resuming(
        settings, run, durability, quiet=quiet, branch=branch, command=command,
        on_change=on_change, on_tool=on_tool, takeover=takeover,
    )  # fmt: skip
    return partial(_run_resumed, program, resuming)


def _run_resumed(program: Program, resuming: Resuming) -> None:
    """Run the program; the recording ends when the interpreter does."""
    resuming.start()
    program.run()


def _show(settings: Settings, log: Log, state: RunState) -> None:
    """Show how far a run got, and how to go on."""
    from eventlog.capture.commands import recorded_command

    argv = recorded_command(log.reader, log.reader.branch_id(state.run, state.branch))
    line = _line(settings, state, argv)
    if settings.as_json:
        show_json({**_facts(state), "command": argv, "resume": line})
        return
    done = [task for task in state.tasks if task.status in ("completed", "skipped")]
    facts = [
        ("run", f"{state.run}/{state.branch}"),
        ("status", state.status),
        ("tasks", f"{len(done)} of {len(state.tasks)} done" if state.tasks else "none"),
        ("model calls", f"{count_of(state.llm.calls, 'call')}, {state.llm.total_tokens} tokens on record"),
        ("at work", ", ".join(one_line(f"{scope.type} {scope.name}", 50) for scope in state.open[-2:]) or "nothing"),
    ]
    show_page([Facts(facts), Table("to go on, type", ("command",), [(line,)])])


def _facts(state: RunState) -> dict[str, Any]:
    """Return what programs want to know before they go on."""
    return {
        "run": state.run,
        "branch": state.branch,
        "status": state.status,
        "tasks": [{"name": task.name, "status": task.status} for task in state.tasks],
        "llm_calls": state.llm.calls,
        "open": [{"type": scope.type, "name": scope.name, "path": scope.path} for scope in state.open],
    }


def _line(settings: Settings, state: RunState, argv: list[str]) -> str:
    """Return the command line that goes on with a run."""
    parts = ["eventlog", "resume", state.run]
    if state.branch != MAIN_BRANCH:
        parts += ["--branch", state.branch]
    parts += ["--db", str(settings.db), "--", *(argv or ["python", "YOUR_PROGRAM.py"])]
    return shlex.join(parts)
