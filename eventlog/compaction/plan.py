"""Where each branch of a run is cut."""

from __future__ import annotations

from typing import Any

import msgspec

from eventlog.lineage import SEQ_MAX
from eventlog.read import Reader
from eventlog.replay.rebuild import STATE_PROJECTION

_CHECKPOINTS = (
    "SELECT seq FROM snapshots WHERE branch = ? AND projection = ? AND kind = 'checkpoint' AND seq > ?"
    " ORDER BY seq DESC LIMIT ?"
)
_BOUNDARY = "SELECT max(seq) FROM events WHERE branch = ? AND seq > ? AND type IN (SELECT id FROM names WHERE {names})"
_BRANCHES = "SELECT id, name, parent, coalesce(fork_seq, 0), base_seq FROM branches WHERE run = ? ORDER BY id"
_NEWEST = "SELECT max(at_ns) FROM events WHERE seq IN (SELECT max(seq) FROM events WHERE branch IN ({marks}))"

BOUNDARIES = (
    "task_completed task_failed method_execution_finished crew_kickoff_completed flow_finished"
    " lite_agent_execution_completed eventlog.execution_result"
).split()
"""Event types after which a task, a method or an execution is over."""


class BranchPlan(msgspec.Struct):
    """What is to become of one branch."""

    run: str
    branch: str
    row: int
    parent: int | None
    fork_seq: int
    base_seq: int
    """Its own base so far; 0 for none."""
    cut: int = 0
    """Its new base; 0: it stays as it is."""


def plan_run(reader: Reader, run: str, max_checkpoints: int) -> list[BranchPlan]:
    """Return the branches of a run that are to be cut, descendants before what they descend from."""
    rows = reader.query(_BRANCHES, (reader.run_id(run),))
    plans = {row[0]: BranchPlan(run, row[1], row[0], row[2], row[3], row[4]) for row in rows}
    for plan in plans.values():
        plan.cut = _cut(reader, plan, max_checkpoints)
    for plan in plans.values():
        if not plan.base_seq and plan.cut <= plan.fork_seq and _is_cut_below(plans, plan):
            plan.cut = plan.fork_seq  # what it inherits goes: it begins where it was forked
    chosen = [plan for plan in plans.values() if plan.cut > plan.base_seq]
    return sorted(chosen, key=lambda plan: -_depth(plans, plan))


def newest_ns(reader: Reader, run: str) -> int:
    """Return when the newest event of a run was emitted; 0 when it has none."""
    rows = [row[0] for row in reader.query(_BRANCHES, (reader.run_id(run),))]
    found = reader.query(_NEWEST.format(marks=",".join("?" * len(rows))), rows)
    return int(found[0][0] or 0)


def _cut(reader: Reader, plan: BranchPlan, max_checkpoints: int) -> int:
    """Return the oldest of the newest checkpoints; without any the head, or the last boundary if it is unfinished."""
    low = max(plan.fork_seq, plan.base_seq - 1)
    rows = reader.query(_CHECKPOINTS, (plan.row, STATE_PROJECTION, low, max_checkpoints)) if max_checkpoints else []
    if rows:
        return int(rows[-1][0])
    roots = [e for e in reader.executions(plan.row) if e.parent is None]
    if all(e.status == "completed" for e in roots):
        head = reader.head(plan.row)
        return head if head > plan.fork_seq else 0
    names = " OR ".join("kind = 'type' AND name = ?" for _ in BOUNDARIES)
    found: Any = reader.query(_BOUNDARY.format(names=names), (plan.row, low, *BOUNDARIES))[0][0]
    return int(found or 0)


def _is_cut_below(plans: dict[int, BranchPlan], plan: BranchPlan) -> bool:
    """Whether an ancestor loses events that a branch reads."""
    cursor, current = SEQ_MAX, plan
    while current.parent in plans and current.parent < current.row:  # a parent is older than its forks
        cursor, current = min(cursor, current.fork_seq), plans[current.parent]
        if current.cut > cursor > 0:
            return True
    return False


def _depth(plans: dict[int, BranchPlan], plan: BranchPlan) -> int:
    """Return how many ancestors a branch has."""
    count = 0
    while plan.parent is not None and plan.parent in plans and count < len(plans):
        plan, count = plans[plan.parent], count + 1
    return count
