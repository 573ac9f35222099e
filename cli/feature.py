"""``eventlog feature``: what long pipelines have delivered, and who verified it."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from eventlog.cli.feature_page import feature_page, list_row
from eventlog.cli.opening import reading
from eventlog.cli.options import Settings, examples, shared_options
from eventlog.cli.output import Table, note, show_json, show_page
from eventlog.cursors import find_moment
from eventlog.ledger.book import Book
from eventlog.ledger.feature import Features
from eventlog.ledger.features import FEATURE_TYPES, FeatureInfo
from eventlog.log import Log
from eventlog.record import MAIN_BRANCH


@click.group(epilog=examples("eventlog feature list --status failed", "eventlog feature show nightly auth-hardening"))
def feature() -> None:
    """See what is delivered, what is not, and who verified which test step."""


_branch = click.option("--branch", metavar="NAME", help=f"A branch of RUN. [default: {MAIN_BRANCH}]")
_to = click.option("--to", metavar="ID", help="Seq, event id, ISO time (UTC) or 'latest'; that event included.")


@feature.command(
    "list", epilog=examples("eventlog feature list", "eventlog feature list nightly --category security --to 42")
)
@click.argument("run", required=False)
@click.option("--status", help="Only these: not_started, in_progress, failed, completed, or what was said.")
@click.option("--category", help="Only those of this category.")
@_branch
@_to
@shared_options
def list_features(
    settings: Settings, run: str | None, status: str | None, category: str | None, branch: str | None, to: str | None
) -> None:
    """List the features of RUN, or of all runs."""
    if run is None and branch is not None:
        raise click.UsageError("--branch needs RUN")
    with reading(settings) as log:
        moment = to if run is not None or to is None else find_moment(log.reader, to)
        places = [(name, MAIN_BRANCH) for name in log.reader.runs_with(FEATURE_TYPES)]
        if run is not None:
            places = [(run, branch or MAIN_BRANCH)]
        found = [(name, info) for name, on in places for info in _at(log, name, on).features(status, category, moment)]
    if settings.as_json:
        show_json([_as_json(name, info) for name, info in found])
    elif not found:
        note(f"{settings.db}: no such features" if run or status or category else f"{settings.db}: no features yet")
    else:
        columns = ("run", "feature", "status", "passed", "category", "verified by", "updated")
        show_page([Table("", columns, [list_row(name, info) for name, info in found], right=("passed",))])


@feature.command(epilog=examples("eventlog feature show nightly auth-hardening --json"))
@click.argument("run")
@click.argument("name", metavar="FEATURE")
@_branch
@_to
@shared_options
def show(settings: Settings, run: str, name: str, branch: str | None, to: str | None) -> None:
    """Show one FEATURE of RUN: its test steps, and who verified what, when."""
    with reading(settings) as log:
        found = _at(log, run, branch or MAIN_BRANCH).info(name, to)
    if settings.as_json:
        show_json(_as_json(run, found))
    else:
        show_page(feature_page(run, found))


def _at(log: Log, run: str, branch: str) -> Features:
    """Return the features of a branch.

    Raises:
        NotFoundError: there is no such run or branch.
    """
    log.reader.branch_id(run, branch)
    return Features(Book(log, run, branch))


def _as_json(run: str, info: FeatureInfo) -> dict[str, Any]:
    """Return an object for programs."""
    return {"run": run, **msgspec.to_builtins(info)}
