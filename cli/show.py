"""``eventlog show``: one event, whole."""

from __future__ import annotations

from typing import Any

import click

from eventlog.cli.opening import reading
from eventlog.cli.options import Settings, examples, shared_options
from eventlog.cli.output import Facts, Prose, show_json, show_page
from eventlog.cli.text import moment
from eventlog.cli.trees import tree_lines
from eventlog.cursors import find_event
from eventlog.errors import CursorNotFoundError
from eventlog.log import Log
from eventlog.record import FLAG_PLACEHOLDER, FLAG_REDACTED, Event
from eventlog.values import plain

_LINKS = ("parent_event_id", "previous_event_id", "triggered_by_event_id", "started_event_id")


@click.command(epilog=examples("eventlog show 42", "eventlog show 3f2a91c0 --json"))
@click.argument("event_id", metavar="ID")
@shared_options
def show(settings: Settings, event_id: str) -> None:
    """Show one event with its whole payload, all messages of a conversation included.

    ID is the event's seq, or its event id: six characters or more of the beginning.
    """
    with reading(settings) as log:
        event = find_whole_event(log, event_id)
    if settings.as_json:
        show_json(event)
        return
    facts = [(name, value) for name, value in _facts(event) if value]
    show_page([Facts(facts), Prose("payload", "\n".join(tree_lines(plain(event.payload))))])


def find_whole_event(log: Log, text: str) -> Event:
    """Return one event with everything filled in.

    Raises:
        CursorNotFoundError, AmbiguousCursorError: no event, or several.
    """
    found = log.reader.at(find_event(log.reader, text).seq)
    if found is None:
        raise CursorNotFoundError(text)
    return next(log.reader.decoded([found]))


def _facts(event: Event) -> list[tuple[str, str]]:
    """Return the header for people."""
    flags = [(FLAG_REDACTED, "secrets were taken out"), (FLAG_PLACEHOLDER, "placeholders for what JSON cannot hold")]
    header: dict[str, Any] = {name: getattr(event, name) for name in event.__struct_fields__}
    return [
        ("seq", str(event.seq)),
        ("event id", event.event_id),
        ("type", event.type),
        ("time", moment(event.at_ns)),
        ("run", event.run or ""),
        ("branch", event.branch if event.run else ""),
        ("path", event.path),
        ("task", " · ".join(filter(None, (event.task_name, event.task_id)))),
        ("agent", " · ".join(filter(None, (event.agent_role, event.agent_id)))),
        *((name.removesuffix("_event_id").replace("_", " "), header[name] or "") for name in _LINKS),
        ("note", ", ".join(text for flag, text in flags if event.flags & flag)),
    ]
