"""Count what was kept and what is lost, for each branch and each large value."""

from __future__ import annotations

from eventlog.errors import EventFormatError
from eventlog.nesting import decode_payload
from eventlog.repair.complete import lost_names
from eventlog.repair.links import Links
from eventlog.repair.report import LISTED_MAX, BranchSalvage, LostValue, RepairReport
from eventlog.repair.work import Work
from eventlog.seal import EVENT
from eventlog.values import collect_refs

_KEPT = "verdict IN ('proven', 'changed', 'unproven')"
_LOST = (
    "SELECT seq FROM events WHERE branch = ?1 AND verdict = 'damaged'"
    " UNION SELECT seq FROM lost WHERE branch = ?1 ORDER BY 1"
)
_UNPROVEN = "SELECT seq FROM events WHERE branch = ? AND verdict = 'unproven' LIMIT ?"
_BRANCHES = (
    "SELECT b.id, r.name, b.name FROM branches AS b JOIN runs AS r ON r.id = b.run"
    " WHERE b.id > 0 OR EXISTS (SELECT 1 FROM events WHERE branch = 0) OR EXISTS (SELECT 1 FROM lost WHERE branch = 0)"
    " ORDER BY b.id"
)


def summarise(links: Links, bases: dict[int, str], values: list[tuple[str, int | None]]) -> RepairReport:
    """Return the report of a repair. ``bases``: what is wrong with them; ``values``: which large values are lost."""
    work = links.work
    report = RepairReport(path="", into="")
    for row, run, name in work.db.execute(_BRANCHES).fetchall():
        report.branches.append(_branch(work, row, run if row else None, name, bases.get(row, "")))
    report.events = sum(branch.kept for branch in report.branches)
    report.lost = sum(branch.lost for branch in report.branches)
    report.unproven = work.one("SELECT count(*) FROM events WHERE verdict = 'unproven'")
    report.unaccounted = work.one("SELECT count(*) FROM lost WHERE branch IS NULL")
    report.contents = work.one(
        "SELECT count(*) FROM contents WHERE hash IN (SELECT hash FROM wanted) AND verdict IN ('good', 'changed')"
    )
    report.contents_lost = len(values)
    report.values = _values(links, values[:LISTED_MAX])
    report.names_lost = len(lost_names(work))
    report.ok = not (report.names_lost or report.lost or report.unaccounted or report.unproven or values or bases)
    return report


def _branch(work: Work, row: int, run: str | None, name: str, base: str) -> BranchSalvage:
    """Return what became of a branch."""
    lost = [seq for (seq,) in work.db.execute(_LOST, (row,))]
    damaged = work.one("SELECT count(*) FROM events WHERE branch = ? AND verdict = 'damaged'", row)
    unproven = work.db.execute(_UNPROVEN, (row, LISTED_MAX))
    reasons = []
    if len(lost) > damaged:
        reasons.append(f"{len(lost) - damaged} stood on pages that cannot be read")
    if damaged:
        reasons.append(f"{damaged} are not what their digest says, or nothing proves them")
    return BranchSalvage(
        run=run, branch=name, kept=work.one(f"SELECT count(*) FROM events WHERE branch = ? AND {_KEPT}", row),
        lost=len(lost), seqs=_stretches(lost)[:LISTED_MAX], unproven=[seq for (seq,) in unproven], base=base,
        reasons=reasons,
    )  # fmt: skip


def _stretches(seqs: list[int]) -> list[tuple[int, int]]:
    """Return numbers as stretches."""
    found: list[tuple[int, int]] = []
    for seq in seqs:
        if found and found[-1][1] == seq - 1:
            found[-1] = (found[-1][0], seq)
        else:
            found.append((seq, seq))
    return found


def _values(links: Links, lost: list[tuple[str, int | None]]) -> list[LostValue]:
    """Return lost values with how many events refer to them themselves."""
    counts = dict.fromkeys((name for name, _ in lost), 0)
    if not counts:
        return []
    for place, payload in links.referring():
        for name in _refs(links, place, payload):
            if name in counts:
                counts[name] += 1
    return [LostValue(hash=name, seq=seq, events=counts[name]) for name, seq in lost]


def _refs(links: Links, seq: int, payload: str) -> set[str]:
    """Return what a payload refers to."""
    try:
        return collect_refs(decode_payload(links.opened(payload, EVENT, seq)))
    except EventFormatError:
        return set()
