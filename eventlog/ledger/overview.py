"""A session as people and programs see it: from the fold to items, lists and a status. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from eventlog.ledger.progress import Claim, Progress, Step, is_stale
from eventlog.ledger.session import Item, ItemStatus, Session
from eventlog.values import plain


def session_of(
    state: Progress, run: str, branch: str, resolve: Callable[[Any], Any], lives: Callable[[Claim], bool]
) -> Session:
    """Return a session as people and programs see it. ``lives`` tells whether a claim has a living owner."""
    names = list(dict.fromkeys((*state.order, *state.steps)))
    items = [_item(state, state.step(name), resolve, lives) for name in names]

    def having(*statuses: ItemStatus) -> list[str]:
        return [item.name for item in items if item.status in statuses]

    return Session(
        run=run, branch=branch, cursor=state.cursor, status=state.status or _status(state, items), items=items,
        completed_items=having("completed"), in_progress_items=having("in_progress", "interrupted"),
        next_items=having("pending", "failed", "stale"), blocked_items=having("blocked"),
        failed_items=having("failed"), stale_items=having("stale"), summary=state.summary, notes=list(state.notes),
        last_action=state.last_action, total_items=max(len(items), state.total_items or 0),
        run_count=state.run_count, agent=state.agent, created_at_ns=state.created_at_ns,
        updated_at_ns=state.updated_at_ns,
    )  # fmt: skip


def _item(state: Progress, step: Step, resolve: Callable[[Any], Any], lives: Callable[[Claim], bool]) -> Item:
    """Return a step as a person sees it."""
    status = _item_status(state, step, lives)
    value = step.result.get("value") if isinstance(step.result, dict) and step.stage == "completed" else None
    return Item(
        name=step.name, status=status, attempts=step.attempts, round=step.round, started_at_ns=step.started_at_ns,
        completed_at_ns=step.completed_at_ns, output=plain(resolve(value)), result_hash=step.result_hash,
        inputs_hash=step.inputs_hash, depends_on=list(step.upstream) or list(state.plan.get(step.name, ())),
        unkept=step.unkept if step.stage == "completed" else None,
        error=None if step.error is None else str(plain(resolve(step.error))), reason=step.reason, blocked=step.blocked,
        worker=worker_of(step.claim), branch=step.branch,
    )  # fmt: skip


def worker_of(claim: Claim | None) -> str | None:
    """Return who has an item, for people."""
    try:
        owner = msgspec.json.decode(claim.owner) if claim is not None and claim.owner else {}
        return f"process {owner['pid']} on {owner['host'] or 'an unnamed host'}"
    except (msgspec.MsgspecError, KeyError, TypeError):
        return None


def _item_status(state: Progress, step: Step, lives: Callable[[Claim], bool]) -> ItemStatus:
    """Return where an item stands."""
    if step.claim is not None:
        return "in_progress" if not step.claim.id or lives(step.claim) else "interrupted"
    stale = step.stage == "completed" and is_stale(state, step)
    if step.stage == "completed" and not stale:
        return "completed"
    if step.blocked is not None:
        return "blocked"
    if stale:
        return "stale"
    if step.stage == "begun":
        return "interrupted"
    return "failed" if step.stage == "failed" else "pending"


def _status(state: Progress, items: list[Item]) -> str:
    """Return where the whole stands."""
    found = {item.status for item in items}
    if not found:
        return "in_progress" if state.cursor else "new"
    if found == {"completed"}:
        return "completed" if len(items) >= (state.total_items or 0) else "in_progress"
    for status in ("in_progress", "interrupted", "failed"):
        if status in found:
            return status
    return "blocked" if found <= {"completed", "blocked"} else "in_progress"
