"""``eventlog session``: where long pipelines stand, and what a person may say about their items."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click
import msgspec

from eventlog.cli.opening import reading
from eventlog.cli.options import Settings, examples, shared_options
from eventlog.cli.output import Table, flush, is_terminal, note, show_json, show_page, write_line
from eventlog.cli.session_page import list_row, session_page
from eventlog.cli.text import harmless
from eventlog.errors import LogNotFoundError
from eventlog.ledger.features import FeatureInfo
from eventlog.ledger.session import Item, Session
from eventlog.log import Log, open_log
from eventlog.record import MAIN_BRANCH

POLL_S = 0.5


@click.group(epilog=examples("eventlog session list", "eventlog session show nightly --watch"))
def session() -> None:
    """See how far long pipelines are, and let their items be done again."""


_to = click.option("--to", metavar="ID", help="Seq, event id, ISO time (UTC) or 'latest'; that event included.")


@session.command("list", epilog=examples("eventlog session list", "eventlog session list --to 2026-01-15T12:00"))
@_to
@shared_options
def list_sessions(settings: Settings, to: str | None) -> None:
    """List the pipelines: the runs that have steps."""
    with reading(settings) as log:
        found = log.sessions(to)
    if settings.as_json:
        show_json([_as_json(each) for each in found])
    elif not found:
        note(f"{settings.db}: no sessions yet; a run has one once it calls run.step(...)")
    else:
        columns = ("run", "status", "progress", "in progress", "updated", "summary")
        show_page([Table("", columns, [list_row(each) for each in found])])


_run = click.argument("run")
_branch = click.option("--branch", default=MAIN_BRANCH, show_default=True, help="A branch of RUN.")


@session.command(
    epilog=examples(
        "eventlog session show nightly", "eventlog session show nightly --watch",
        "eventlog session show nightly --to 42",
    )
)  # fmt: skip
@_run
@_branch
@_to
@click.option("--full", is_flag=True, help="Show the outputs of items in their whole length.")
@click.option("--watch", is_flag=True, help="Show it again whenever something happens, until all is done.")
@shared_options
def show(settings: Settings, run: str, branch: str, to: str | None, full: bool, watch: bool) -> None:
    """Show where the pipeline RUN stands: its items, its features, its last summary."""
    if watch and to is not None:
        raise click.UsageError("--watch shows the newest events: leave out --to")
    with reading(settings) as log:
        log.reader.branch_id(run, branch)
        if watch:
            _watch(settings, log, run, branch, full=full)
        else:
            ledger = log.ledger(run, branch=branch)
            now_ns = None if to is not None else time.time_ns()
            _show(settings, ledger.session(to), ledger.features(to=to), now_ns, full=full)


def _show(
    settings: Settings, found: Session, features: list[FeatureInfo], now_ns: int | None, *, full: bool
) -> None:  # fmt: skip
    """Write one session with its features."""
    if settings.as_json:
        show_json({**_as_json(found), "features": features})
    else:
        show_page(session_page(found, features, now_ns, full=full))


def _watch(settings: Settings, log: Log, run: str, branch: str, *, full: bool) -> None:
    """Write a session whenever it changed, until it is completed."""
    ledger = log.ledger(run, branch=branch)
    shown: tuple[Session, list[FeatureInfo]] | None = None
    while True:
        found = ledger.session(), ledger.features()
        if found != shown:
            if is_terminal() and not settings.as_json:
                click.clear()
            elif shown is not None:
                write_line("")
            _show(settings, *found, time.time_ns(), full=full)
            flush()
            shown = found
        if found[0].status == "completed":
            return
        time.sleep(POLL_S)


# -- what a person may say --------------------------------------------------------------------------


def _about_item(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what says which item is meant: RUN, ITEM and ``--branch``."""
    return _run(click.argument("item")(_branch(command)))


@session.command(epilog=examples('eventlog session invalidate nightly scan-auth --reason "other notes"'))
@_about_item
@click.option("--reason", help="Why; shown with the item.")
@shared_options
def invalidate(settings: Settings, run: str, item: str, branch: str, reason: str | None) -> None:
    """Let ITEM be done again when the program runs the next time; what depends on it is stale until then."""
    _say(settings, run, branch, item, "invalidate", reason)


@session.command(epilog=examples("eventlog session release nightly scan-auth"))
@_about_item
@shared_options
def release(settings: Settings, run: str, item: str, branch: str) -> None:
    """Take ITEM from a worker that hangs; should it finish after all, its result does not count."""
    _say(settings, run, branch, item, "release")


@session.command(epilog=examples('eventlog session block nightly deploy "waiting for credentials"'))
@_about_item
@click.argument("reason")
@shared_options
def block(settings: Settings, run: str, item: str, reason: str, branch: str) -> None:
    """Let nobody begin ITEM until it is unblocked."""
    _say(settings, run, branch, item, "block", reason)


@session.command(epilog=examples("eventlog session unblock nightly deploy"))
@_about_item
@shared_options
def unblock(settings: Settings, run: str, item: str, branch: str) -> None:
    """Let ITEM be begun again."""
    _say(settings, run, branch, item, "unblock")


def _say(settings: Settings, run: str, branch: str, item: str, what: str, *args: str | None) -> None:
    """Append what a person says about an item, and show it."""
    if not settings.db.exists():  # opening for writing would make it
        raise LogNotFoundError(str(settings.db))
    with open_log(settings.db) as log:
        log.reader.branch_id(run, branch)
        ledger = log.ledger(run, branch=branch)
        getattr(ledger, what)(item, *args)
        found = ledger.session()
    if settings.as_json:
        show_json(_as_json(found))
    else:
        write_line(harmless(_sentence(found.item(item))))


def _sentence(item: Item) -> str:
    """Return where an item stands after something was said about it."""
    if item.status == "completed" and item.blocked:
        return f"{item.name} is completed; if it has to be done again, it is blocked: {item.blocked}"
    return f"{item.name} is {item.status}"


def _as_json(found: Session) -> dict[str, Any]:
    """Return an object for programs."""
    return {**msgspec.to_builtins(found), "in_progress_item": found.in_progress_item}
