"""The ``eventlog`` group: finds commands when they are used, turns every error into one line and an exit code.

Exit codes: 0 fine, 1 the request failed, 2 wrong usage, 3 a difference or damage was found,
130 interrupted, 141 whoever read our output left.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from eventlog import __version__
from eventlog.cli.options import examples
from eventlog.cli.output import note
from eventlog.errors import EventLogError, LogDamagedError

FAILED, USAGE, DAMAGED, INTERRUPTED, PIPE_CLOSED = 1, 2, 3, 130, 141

COMMANDS = {
    "demo": "demo:demo",
    "record": "record:record",
    "runs": "runs:runs",
    "log": "log:log",
    "show": "show:show",
    "replay": "replay:replay",
    "diff": "diff:diff",
    "resume": "resume:resume",
    "branches": "branches:branches",
    "fork": "fork:fork",
    "session": "session:session",
    "feature": "feature:feature",
    "compact": "compact:compact",
    "forget": "forget:forget",
    "memory": "memory:memory",
    "stats": "stats:stats",
    "doctor": "doctor:doctor",
    "bench": "bench:bench",
    "verify": "verify:verify",
    "backup": "backup:backup",
    "repair": "repair:repair",
    "export": "transfer:export_events",
    "import": "transfer:import_events",
}
"""Name → module and object: a module is imported when its command is used, so that reading stays quick."""


class LazyGroup(click.Group):
    """A group whose commands live in modules of their own."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order a person meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the module of one command."""
        home = COMMANDS.get(cmd_name)
        if home is None:
            return None
        module, _, name = home.partition(":")
        command: click.Command = getattr(import_module(f"eventlog.cli.{module}"), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; interrupts and readers that leave are no errors, and click would make them some."""
        try:
            outcome = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
        except KeyboardInterrupt:
            return INTERRUPTED
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes once more when it exits
            return PIPE_CLOSED
        return outcome


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples("eventlog demo", "eventlog record crew.py", "eventlog replay --to 42"),
)
@click.version_option(__version__, "--version", message="eventlog %(version)s")
def group() -> None:
    """Record what a CrewAI program does, and look at it at any point in time."""


def main() -> NoReturn:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """Return the exit code of one command line.

    A command may return what is left to do (``record``: the user's script); that runs here,
    outside of click and of our own handling of errors: its exceptions are the script's.
    """
    outcome = _run_command(args)
    if callable(outcome):
        code = outcome()
        return code if isinstance(code, int) else 0
    return outcome if isinstance(outcome, int) else 0


def _run_command(args: Sequence[str]) -> int | Callable[[], Any] | None:
    """Return what a command returned; errors are told in a line and become an exit code."""
    try:
        outcome: Any = group.main(list(args) or ["--help"], prog_name="eventlog", standalone_mode=False)
    except click.Abort:
        return INTERRUPTED
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "eventlog"
        return _tell(error.format_message(), f"{where} --help", USAGE)
    except click.ClickException as error:
        return _tell(error.format_message(), "", error.exit_code)
    except EventLogError as error:
        return _tell(str(error), error.hint, DAMAGED if isinstance(error, LogDamagedError) else FAILED)
    except sqlite3.Error as error:
        return _tell(f"SQLite: {error}", "check the file: eventlog doctor", FAILED)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        return _tell(f"{name}{error.strerror or error}", "", FAILED)
    except Exception as error:
        return _unexpected(error)
    return outcome  # type: ignore[no-any-return]


def _tell(problem: str, hint: str, code: int) -> int:
    """Write an error and its remedy to stderr."""
    note(f"Error: {problem}")
    if hint:
        note(f"Hint: {hint}")
    return code


def _unexpected(error: Exception) -> int:
    """A bug of ours: one line as well, and the traceback for whoever looks for it."""
    if os.environ.get("EVENTLOG_DEBUG"):
        traceback.print_exception(error)
    hint = "this should not happen; EVENTLOG_DEBUG=1 shows where it did"
    return _tell(f"{type(error).__name__}: {error}", hint, FAILED)
