"""How runs and branches stand: how much is in them, what became of their last kickoff, who is at work on them."""

from __future__ import annotations

import time
from typing import Any, Literal

import msgspec

from eventlog.owner import living_owner
from eventlog.read import Reader
from eventlog.record import BranchInfo, RunInfo
from eventlog.seal import EXECUTION, Seal

_RUNS = (
    "WITH ends AS (SELECT b.run, count(*) AS branches,"
    "   sum((SELECT count(*) FROM events WHERE branch = b.id AND seq > b.base_seq)) AS events,"
    "   sum((SELECT count(*) FROM executions WHERE branch = b.id AND started_seq > coalesce(b.fork_seq, 0)))"
    "     AS executions,"
    "   min((SELECT min(seq) FROM events WHERE branch = b.id)) AS first,"
    "   max((SELECT max(seq) FROM events WHERE branch = b.id)) AS last,"
    "   max((SELECT max(started_seq) FROM executions WHERE branch = b.id AND parent IS NULL)) AS root"
    "   FROM branches AS b WHERE b.run > 0 GROUP BY b.run)"
    " SELECT r.name, r.attribution, ends.events, ends.branches, ends.executions,"
    " first.at_ns, last.at_ns, root.kind, root.name, root.status, root.started_seq"
    " FROM ends JOIN runs AS r ON r.id = ends.run"
    " LEFT JOIN events AS first ON first.seq = ends.first LEFT JOIN events AS last ON last.seq = ends.last"
    " LEFT JOIN events AS start ON start.seq = ends.root"
    " LEFT JOIN executions AS root ON root.branch = start.branch AND root.path = start.path"
    " ORDER BY r.id"
)
_OWNED = (
    "SELECT r.name, b.id, b.owner, b.lease_until_ns FROM branches AS b JOIN runs AS r ON r.id = b.run"
    " WHERE b.owner IS NOT NULL AND b.run > 0"
)


def list_runs(reader: Reader) -> list[RunInfo]:
    """Return all runs, oldest first."""
    running = _running(reader)
    return [_run_info(row, reader.seal, is_running=row[0] in running) for row in reader.query(_RUNS)]


def list_branches(reader: Reader, run: str, branch: str | None = None) -> list[BranchInfo]:
    """Return the branches of a run, oldest first, or the one of that name.

    Raises:
        RunNotFoundError: there is no such run.
    """
    found = [(info, reader.branch_id(run, info.branch)) for info in reader.branches(run, branch)]
    return [
        msgspec.structs.replace(info, status=_branch_status(reader, row, owned=is_owned(reader, row)))
        for info, row in found
    ]


def unended(*, started: bool, owned: bool) -> Literal["running", "completed", "interrupted"]:
    """Return the status of what has no kickoff (then nothing is left undone), or whose last one did not end."""
    if owned:
        return "running"
    return "interrupted" if started else "completed"


def _branch_status(reader: Reader, branch: int, *, owned: bool) -> str:
    """Return the status of the last root execution of a branch."""
    roots = [e for e in reader.executions(branch) if e.parent is None]
    if roots and roots[-1].status != "running":
        return roots[-1].status
    return unended(started=bool(roots), owned=owned)


def is_owned(reader: Reader, branch: int) -> bool:
    """Whether a living process has the branch open."""
    rows = reader.query("SELECT owner, lease_until_ns FROM branches WHERE id = ?", (branch,))
    return any(living_owner(owner, until, time.time_ns()) for owner, until in rows)


def _running(reader: Reader) -> set[str]:
    """Return the runs that a living process works on, on whatever branch."""
    now = time.time_ns()
    owned = [(run, row) for run, row, owner, until in reader.query(_OWNED) if living_owner(owner, until, now)]
    return {run for run, row in owned if _branch_status(reader, row, owned=True) == "running"}


def _run_info(row: Any, seal: Seal, *, is_running: bool) -> RunInfo:
    """Return a row of the list of runs."""
    name, attribution, events, branches, executions, started, updated, kind, title, status, start = row
    title = seal.unseal_text(title, EXECUTION, "name", start) if title else ""
    if is_running or status in (None, "running"):
        status = unended(started=status is not None, owned=is_running)
    return RunInfo(
        run=name, status=status, kind=kind, name=title, events=events, branches=branches, executions=executions,
        started_at_ns=started, updated_at_ns=updated, attribution=attribution,
    )  # fmt: skip
