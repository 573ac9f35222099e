"""``eventlog branches``: the lines of history of a run, as a tree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from eventlog.cli.opening import reading
from eventlog.cli.options import Settings, examples, shared_options
from eventlog.cli.output import Facts, Table, show_json, show_page
from eventlog.cli.text import one_line
from eventlog.record import BranchInfo

DEPTH_MAX = 30
"""Deeper branches are not indented further."""


@click.command(epilog=examples("eventlog branches", "eventlog branches nightly --json"))
@click.argument("run", required=False)
@shared_options
def branches(settings: Settings, run: str | None) -> None:
    """Draw the branches of RUN (default: the latest), each below the one it was forked from.

    A branch begins after the event in column FROM. Branches called stale/N hold what a process
    still recorded after another had taken its branch over.
    """
    with reading(settings) as log:
        name = run or log.latest_run()
        found = log.branches(name)
    if settings.as_json:
        show_json([_as_json(info) for info in found])
    else:
        columns = ("branch", "from", "events", "last", "status")
        rows = [_row(info, depth) for info, depth in tree(found)]
        show_page([Facts([("run", name)]), Table("", columns, rows, right=("from", "events", "last"))])


def tree(found: list[BranchInfo]) -> Iterator[tuple[BranchInfo, int]]:
    """Yield branches, each after its parent, with how deep they are; the order is that of their forks."""
    below: dict[str | None, list[BranchInfo]] = {}
    names = {info.branch for info in found}
    for info in found:
        below.setdefault(info.parent if info.parent in names else None, []).append(info)
    work = [(info, 0) for info in reversed(below.pop(None, []))]
    while work:
        info, depth = work.pop()
        yield info, depth
        children = sorted(below.pop(info.branch, []), key=lambda child: child.fork_seq or 0, reverse=True)
        work.extend((child, depth + 1) for child in children)


def _row(info: BranchInfo, depth: int) -> tuple[str, ...]:
    """Return a row for people."""
    indent = "   " * (min(depth, DEPTH_MAX) - 1) + "└─ " if depth else ""
    begins = "" if info.fork_seq is None else str(info.fork_seq)
    return indent + one_line(info.branch, 60), begins, str(info.events), str(info.last_seq), info.status


def _as_json(info: BranchInfo) -> dict[str, Any]:
    """Return an object for programs."""
    return {
        "run": info.run, "branch": info.branch, "parent": info.parent, "fork_seq": info.fork_seq,
        "events": info.events, "last_seq": info.last_seq, "status": info.status,
    }  # fmt: skip
