"""Options every command has, and the form of their help."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

DEFAULT_DB = "eventlog.db"


class Settings(msgspec.Struct, frozen=True):
    """What the shared options say."""

    db: Path
    as_json: bool
    db_given: bool
    """Whether somebody named the log; otherwise it is the default path."""


def shared_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--db``, ``--json`` and ``-v`` to a command, which gets them as its first argument."""

    @click.option(
        "--db", envvar="EVENTLOG_DB", show_envvar=True, metavar="PATH", type=click.Path(path_type=Path),
        help=f"The log. [default: ./{DEFAULT_DB}]",
    )  # fmt: skip
    @click.option("--json", "as_json", is_flag=True, help="Write JSON for programs.")
    @click.option("-v", "--verbose", count=True, help="Show what eventlog itself has to say; twice for more.")
    @functools.wraps(command)
    def with_settings(db: Path | None, as_json: bool, verbose: int, **rest: Any) -> Any:
        if verbose:
            from eventlog.cli.logs import show_logs

            show_logs(verbose)
        return command(Settings(db or Path(DEFAULT_DB), as_json, db is not None), **rest)

    return with_settings


def examples(*lines: str) -> str:
    """Return the end of a command's help: what a person would type."""
    return "\b\n" + ("Example" if len(lines) == 1 else "Examples") + ":\n" + "\n".join(f"  {line}" for line in lines)
