"""``eventlog diff``: where two runs, or two moments of one, differ."""

from __future__ import annotations

from itertools import islice
from typing import Any

import click
import msgspec

from eventlog.cli.diff_page import counts, side_by_side, task_pairs
from eventlog.cli.opening import Place, parse_place, reading
from eventlog.cli.options import Settings, examples, shared_options
from eventlog.cli.output import Block, Facts, Table, show_json, show_page
from eventlog.cli.text import count_of, one_line
from eventlog.log import Log
from eventlog.record import StoredEvent, is_step
from eventlog.replay.diff import Difference, EventDifference, diff_states, first_difference
from eventlog.replay.state import RunState

DIFFERENT = 3
AMBIENT = frozenset({"default_env", "cc_env", "codex_env", "cursor_env", "flow_created"})
"""What CrewAI says of a process, once in each."""
DIFFERENCES_SHOWN = 40


@click.command(
    epilog=examples(
        "eventlog diff monday tuesday",
        "eventlog diff nightly@40 nightly@80",
        "eventlog diff nightly nightly/cheaper",
        "eventlog diff nightly/main@80 nightly/cheaper@latest",
        "eventlog diff 3f2a91c0 7be410aa --state",
    )
)
@click.argument("left", metavar="A")
@click.argument("right", metavar="B")
@click.option("--state", "state_only", is_flag=True, help="Compare the states only, not the events that led to them.")
@shared_options
def diff(settings: Settings, left: str, right: str, state_only: bool) -> int:
    """Compare two places in the log: the events up to them, and the states there.

    A and B are RUN, RUN@CURSOR, RUN/BRANCH, RUN/BRANCH@CURSOR, or a bare event id or seq. Shown
    are the first event that differs, tasks, outputs and tokens side by side, and every difference
    of the states. Ids, times and durations do not count. Exit code 0: equal; 3: different.

    Where one of both was compacted, the events that only the other still has are not compared.
    """
    with reading(settings) as log:
        places = parse_place(log, left), parse_place(log, right)
        states = _state(log, places[0]), _state(log, places[1])
        found = diff_states(*states)
        start = 0 if state_only else max(_gone(log, place) for place in places)
        events = None if state_only else first_difference(*(_events(log, place, start) for place in places))
    different = bool(found) or events is not None
    if settings.as_json:
        document = _as_json(places, found, events, different=different)
        numbers = {name: {"left": a, "right": b} for name, a, b in counts(*states)}
        show_json({**document, "compared_after": start, "tasks": task_pairs(*states), "counts": numbers})
    else:
        scope = "(not compared)" if state_only else f"after the first {start} " if start else ""
        show_page(_page(places, states, found, events, scope))
    return DIFFERENT if different else 0


def _state(log: Log, place: Place) -> RunState:
    """Return the state at a place."""
    return log.state(place.run, branch=place.branch, to=place.seq)


def _gone(log: Log, place: Place) -> int:
    """Return how many events came before the base of a place."""
    base = log.reader.base(log.reader.branch_id(place.run, place.branch))
    return 0 if base is None else msgspec.json.decode(base.state, type=RunState).event_count


def _events(log: Log, place: Place, start: int) -> Any:
    """Return the steps of a place after its first ``start`` events, as stored: equal contents have equal references."""
    events = log.reader.stored(log.reader.branch_id(place.run, place.branch), to=place.seq)
    rest = islice(events, start - _gone(log, place), None)
    return (event for event in rest if is_step(event) and event.type not in AMBIENT)


def _named(place: Place) -> str:
    """Return a place as the command line takes it."""
    return f"{place.run}/{place.branch}@{place.seq}"


def _page(
    places: tuple[Place, Place], states: tuple[RunState, RunState], found: list[Difference],
    events: EventDifference | None, scope: str,
) -> list[Block]:  # fmt: skip
    """Return the page for people; ``scope`` says which events were compared, if not all."""
    word = "different" if found or events else "equal"
    alike = scope if scope.startswith("(") else scope + ("different" if events else "equal")
    summary = [
        ("A", _named(places[0])), ("B", _named(places[1])), ("result", word), ("events", alike),
        ("state", count_of(len(found), "difference") if found else "equal"),
    ]  # fmt: skip
    rows = _rows(found)
    if len(found) > DIFFERENCES_SHOWN:
        rows.append(("", f"… {len(found) - DIFFERENCES_SHOWN} more: --json shows all", "", ""))
    sides = side_by_side(*states) if found or events else []
    return [Facts(summary), *_first(events), *sides, Table("state", ("change", "where", "A", "B"), rows)]


def _first(events: EventDifference | None) -> list[Block]:
    """Return the first events that differ."""
    if events is None:
        return []
    sides = [("A", events.left), ("B", events.right)]
    head = [
        (side, _seq(event), event.type if event else "(ends here)", event.path if event else "")
        for side, event in sides
    ]
    rows = _rows(events.differences)
    return [
        Table(f"first different event, after {events.index} alike", ("", "seq", "type", "path"), head, right=("seq",)),
        Table("in that event", ("change", "where", "A", "B"), rows),
    ]


def _rows(found: list[Difference]) -> list[tuple[str, str, str, str]]:
    """Return differences as rows."""
    return [(d.kind, d.path, one_line(d.left, 50), one_line(d.right, 50)) for d in found[:DIFFERENCES_SHOWN]]


def _seq(event: StoredEvent | None) -> str:
    """Return where an event stands."""
    return str(event.seq) if event else ""


def _as_json(
    places: tuple[Place, Place], found: list[Difference], events: EventDifference | None, *, different: bool
) -> dict[str, Any]:
    """Return the document for programs."""
    first = None
    if events is not None:
        sides = {side: _event_json(event) for side, event in (("left", events.left), ("right", events.right))}
        first = {"alike": events.index, **sides, "differences": events.differences}
    left, right = ({"run": p.run, "branch": p.branch, "seq": p.seq} for p in places)
    return {"equal": not different, "left": left, "right": right, "state": found, "first_event": first}


def _event_json(event: StoredEvent | None) -> dict[str, Any] | None:
    """Return an event with its payload as a document, references as stored."""
    if event is None:
        return None
    fields: dict[str, Any] = msgspec.structs.asdict(event)
    return {**fields, "payload": msgspec.Raw(event.payload)}
