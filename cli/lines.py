"""One event in one line, coloured on a terminal."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from typing import Any

import click

from eventlog.cli.output import is_terminal
from eventlog.cli.subjects import subject_of
from eventlog.cli.text import harmless, moment, one_line
from eventlog.record import FLAG_REPLAYED, OWN_PREFIX, Event, StoredEvent

TYPE_WIDTH = 28
_COLOURS = (
    (re.compile(r"failed|error|aborted|denied|gap"), "red"),
    (re.compile(r"completed|finished"), "green"),
    (re.compile(r"started"), "cyan"),
)


class EventLine:
    """Writes events in columns: seq, time, run, type, subject, path."""

    def __init__(self, fill: Callable[[str], Any], *, with_run: bool, with_path: bool) -> None:
        """``fill`` returns the content behind a reference."""
        self._fill, self._with_run, self._with_path = fill, with_run, with_path
        self._colour = is_terminal()
        self._width = shutil.get_terminal_size().columns if self._colour else None

    def of(self, event: StoredEvent | Event) -> str:
        """Return the line of one event."""
        run = f"  {one_line(event.run or '-', 24):<16}" if self._with_run else ""
        head = f"{event.seq:>7}  {moment(event.at_ns)}{run}  "
        kind, subject = harmless(event.type).replace("\n", " "), subject_of(event, self._fill)
        path = f"  {harmless(event.path).replace(chr(10), ' ')}" if self._with_path and event.path else ""
        if event.flags & FLAG_REPLAYED:
            subject = f"{subject} (again)".strip()
        if not self._colour:
            return f"{head}{kind:<{TYPE_WIDTH}}  {subject}{path}".rstrip()
        room = max(0, (self._width or 0) - len(head) - max(TYPE_WIDTH, len(kind)) - 2)
        rest = (subject + path)[:room] if not self._with_path else subject + path
        return f"{click.style(head, dim=True)}{_coloured(kind)}  {rest}".rstrip()


def _coloured(kind: str) -> str:
    """Return a type in the colour of what happened; our own are dim."""
    colour = next((colour for pattern, colour in _COLOURS if pattern.search(kind)), None)
    return click.style(f"{kind:<{TYPE_WIDTH}}", fg=colour, dim=kind.startswith(OWN_PREFIX) or None)
