"""``eventlog replay --play``: recorded events for a user's listeners, shown as they go by."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib import import_module

from eventlog.cli.lines import EventLine
from eventlog.cli.opening import Place
from eventlog.cli.output import flush, note, show_json, write_line
from eventlog.errors import EventLogError
from eventlog.log import Log
from eventlog.record import Event
from eventlog.replay.timeline import play_events, without_other_listeners


class ListenerError(EventLogError):
    """A module named by ``--listeners`` cannot be imported."""

    hint = "name a module that python can import from this folder, such as my_project.listeners"


def play_run(log: Log, place: Place, speed: float, listeners: Iterable[str], *, as_json: bool) -> None:
    """Hand a run's events to listeners.

    Raises:
        ListenerError: one of them cannot be imported.
    """
    line = EventLine(log.reader.content, with_run=False, with_path=False)

    def show(event: Event) -> None:
        if not as_json:
            write_line(line.of(event))
            flush()

    with without_other_listeners():
        for name in listeners:
            _import_listeners(name)
        result = play_events(log.events(place.run, place.branch, to=place.seq), speed, on_event=show)
    if as_json:
        show_json(result)
    else:
        heard = result.events - result.unheard
        note(f"played {result.events} events of run {place.run}; listeners took {heard} of them")


def _import_listeners(name: str) -> None:
    """Import a module of the user's, which registers its listeners on the bus."""
    if sys.path[:1] != [os.getcwd()]:  # noqa: PTH109 - the very text python -m puts there
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        import_module(name)
    except Exception as error:
        raise ListenerError(f"cannot import {name}: {type(error).__name__}: {error}") from error
