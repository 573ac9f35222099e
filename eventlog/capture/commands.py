"""The command line that runs, kept for who wants to start it again (``eventlog.command``)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from msgspec.json import decode

from eventlog.record import COMMAND

if TYPE_CHECKING:
    from eventlog.capture.homes import Home
    from eventlog.capture.recorder import Recorder
    from eventlog.read import Reader


def command_line() -> list[str]:
    """Return how this process was started, the interpreter by its plain name."""
    argv = list(sys.orig_argv)
    name = argv[0].replace("\\", "/").rpartition("/")[2] if argv else ""
    return ["python" if name.startswith("python") else name, *argv[1:]] if argv else []


def note_command(recorder: Recorder, home: Home, reader: Reader, argv: list[str]) -> None:
    """Store a command line unless it is the one that is on record already."""
    branch = reader.branch_id(home.run, home.branch)
    known = [decode(event.payload) for event in reader.stored(branch, types=[COMMAND], kept=True)]
    if argv and not (known and known[-1].get("argv") == argv):
        recorder.guarded(lambda r: r.append_at(home, (), COMMAND, {"argv": argv}))


def recorded_command(reader: Reader, branch: int) -> list[str]:
    """Return the newest command line on record; empty when there is none. It is shown, never run."""
    known = [decode(event.payload) for event in reader.stored(branch, types=[COMMAND], kept=True)]
    argv = known[-1].get("argv") if known else []
    return [str(part) for part in argv] if isinstance(argv, list) else []
