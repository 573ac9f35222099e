"""A session as a page for people. Pure."""

from __future__ import annotations

from eventlog.cli.feature_page import passed
from eventlog.cli.output import Block, Facts, Prose, Table
from eventlog.cli.text import as_text, moment, one_line, seconds
from eventlog.ledger.features import FeatureInfo
from eventlog.ledger.session import Item, Session

BAR_CHARS = 24
EXCERPT_CHARS = 60


def session_page(
    found: Session, features: list[FeatureInfo], now_ns: int | None, *, full: bool
) -> list[Block]:  # fmt: skip
    """Return the page; ``full`` shows whole outputs. ``now_ns`` tells for how long something is under way."""
    blocks: list[Block] = [
        Facts(_facts(found)),
        Table(
            "items", ("#", "status", "item", "begun", "took", "output"),
            [_row(number, item, now_ns) for number, item in enumerate(found.items, 1)], right=("#", "begun", "took"),
        ),
        Table(
            "features", ("status", "feature", "passed", "description"),
            [(info.status, info.name, passed(info), one_line(info.description, EXCERPT_CHARS)) for info in features],
            right=("passed",),
        ),
        Table("notes", ("event", "time", "note"), [(str(n.seq), moment(n.at_ns)[:19], n.text) for n in found.notes]),
    ]  # fmt: skip
    if full:
        done = (item for item in found.items if item.output is not None)
        blocks += [Prose(f"output of {one_line(item.name, 40)}", as_text(item.output)) for item in done]
    return blocks


def _facts(found: Session) -> list[tuple[str, str]]:
    """Return what a person looks for first."""
    rows = [
        ("run", found.run if found.branch == "main" else f"{found.run} (branch {found.branch})"),
        ("status", found.status),
        ("progress", bar(found)),
        ("in progress", _under_way(found)),
        ("blocked", "\n".join(f"{i.name}: {i.blocked}" for i in found.items if i.blocked is not None)),
        ("next", one_line(", ".join(found.next_items), 100)),
        ("summary", found.summary or ""),
        ("begun", moment(found.created_at_ns)[:19]),
        ("updated", moment(found.updated_at_ns)[:19]),
        ("started", f"{found.run_count} time{'s' * (found.run_count != 1)}" if found.run_count else ""),
    ]
    return [(name, value) for name, value in rows if value]


def bar(found: Session) -> str:
    """Return how much is done, as a bar and in numbers."""
    done, total = len(found.completed_items), len(found.items)
    full = BAR_CHARS * done // total if total else 0
    return f"[{'#' * full}{'.' * (BAR_CHARS - full)}] {done} of {total}"


def _under_way(found: Session) -> str:
    """Return who does what."""
    items = (item for item in found.items if item.status in ("in_progress", "interrupted"))
    return "\n".join(item.name + (f" ({_who(item)})" if _who(item) else "") for item in items)


def _who(item: Item) -> str:
    """Return who has an item; whoever had it is gone when it is interrupted."""
    if item.status == "interrupted":
        return "its worker is gone"
    return item.worker or ""


def _row(number: int, item: Item, now_ns: int | None) -> tuple[str, ...]:
    """Return the row of one item."""
    begun, text = str(item.attempts or ""), one_line(_result(item), EXCERPT_CHARS)
    return str(number), item.status, item.name, begun, _took(item, now_ns), text


def _result(item: Item) -> str:
    """Return what a person wants to know of an item: its output, or why there is none."""
    if item.status == "stale" and item.reason:
        return f"to be done again: {item.reason}"
    if item.unkept is not None:
        return f"not kept, done again at each start: {item.unkept}"
    if item.status in ("completed", "stale"):
        says = item.output.get("raw") if isinstance(item.output, dict) else None
        return says if isinstance(says, str) else as_text(item.output)
    return item.error or item.blocked or item.reason or ""


def _took(item: Item, now_ns: int | None) -> str:
    """Return how long the last attempt took, or takes so far."""
    if item.started_at_ns is None:
        return ""
    if item.status == "in_progress" and now_ns is not None:
        return f"{seconds(now_ns - item.started_at_ns)} …"
    if item.status not in ("completed", "stale") or item.completed_at_ns is None:
        return ""
    return seconds(item.completed_at_ns - item.started_at_ns)


def list_row(found: Session) -> tuple[str, ...]:
    """Return a session as a row of a list."""
    under_way = one_line(", ".join(found.in_progress_items), 30)
    updated = moment(found.updated_at_ns)[:19]
    return found.run, found.status, bar(found), under_way, updated, one_line(found.summary, 40)
