"""The base of a branch at a cut, made and verified: nothing is written yet."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec

from eventlog.bases import Base, Retained, base_proof, read_spent, sealed_base
from eventlog.chain import Chain
from eventlog.compaction.keep import Keeper
from eventlog.compaction.plan import BranchPlan
from eventlog.compaction.survey import survey
from eventlog.errors import CompactionError
from eventlog.lineage import steadily
from eventlog.logger import Logger
from eventlog.read import Reader
from eventlog.replay.projection import registered_projections
from eventlog.replay.rebuild import rebuild_projection, rebuild_state, refold_state

PAGE_ROWS = 2000

_KEPT = (
    "SELECT k.seq, k.previous, e.digest FROM retained AS k CROSS JOIN events AS e ON e.seq = k.seq"
    " WHERE k.branch = ? AND k.seq > ? AND k.seq <= ? ORDER BY k.seq LIMIT ?"
)
_DIGESTS = "SELECT seq, digest FROM events WHERE branch = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"

log = Logger(__name__)


class Draft(msgspec.Struct):
    """A base as it will be stored, and what it retains."""

    plan: BranchPlan
    base: Base
    retained: list[Retained]
    dropped: int
    """Events that are in the file and will not be."""
    obsolete: list[int] = []
    """What only the former base retained."""


def make_draft(reader: Reader, plan: BranchPlan, chain: Chain, *, keeps_tape: bool) -> Draft:
    """Return the base of a branch at its cut, compared with a fold from the very beginning of what is there.

    Raises:
        CompactionError: the snapshots tell another state than the events, or a projection is not known here.
        LogDamagedError: the events cannot be read.
    """
    state = _verified_state(reader, plan)
    former = reader.base(plan.row)
    keeps_tape = keeps_tape and (former is None or former.keeps_tape)
    keeper, chosen, dropped = _choose(reader, plan, keeps_tape=keeps_tape)
    retained = [found for found in _chained(reader, plan) if found[0] in chosen]
    base = Base(
        branch=plan.row, seq=plan.cut, digest=retained[-1][2] or b"", state=state,
        projections=_settled_projections(reader, plan, former), keeps_tape=keeps_tape,
        spent=msgspec.json.encode([*(read_spent(former) if former else []), *keeper.spent]).decode(),
        events=(former.events if former else 0) + dropped, created_ns=time.time_ns(),
    )  # fmt: skip
    base = sealed_base(base, reader.seal)
    base.proof = base_proof(chain, base, retained)
    return Draft(plan, base, retained, dropped)


def _verified_state(reader: Reader, plan: BranchPlan) -> str:
    """Return the state at the cut as JSON; two ways to it must agree."""
    known = msgspec.json.encode(rebuild_state(reader, plan.run, plan.branch, plan.cut))
    folded = msgspec.json.encode(refold_state(reader, plan.run, plan.branch, plan.cut))
    if known != folded:
        raise CompactionError(
            plan.run, plan.branch, f"its snapshots and its events tell different states at {plan.cut}"
        )
    return folded.decode()


def _choose(reader: Reader, plan: BranchPlan, *, keeps_tape: bool) -> tuple[Keeper, set[int], int]:
    """Return what decided, the seqs of what stays, and how many events go."""

    def choose() -> tuple[Keeper, set[int], int]:
        found = survey(reader.stored(plan.row, to=plan.cut, kept=True), reader.content)
        roots = [e for e in reader.executions(plan.row, plan.cut) if e.parent is None]
        finished = [e.path for e in roots if e.status == "completed"]
        keeper = Keeper(found, finished, plan.cut, keeps_tape=keeps_tape)
        chosen: set[int] = set()
        dropped = 0
        for event in reader.stored(plan.row, to=plan.cut, kept=True):
            if keeper.keeps(event):
                chosen.add(event.seq)
            else:
                dropped += 1
        keeper.finish()
        return keeper, chosen, dropped

    return steadily(choose)


def _chained(reader: Reader, plan: BranchPlan) -> Iterator[Retained]:
    """Yield seq, the digest before it and its own digest of every event of the lineage that is there, up to the cut."""
    base, previous = reader.stored_base(plan.row), b""
    if base is not None:
        after = 0
        while rows := reader.query(_KEPT, (base.branch, after, min(base.seq, plan.cut), PAGE_ROWS)):
            yield from rows
            after = rows[-1][0]
        previous = base.digest
    for owner, low, high in reader.lineage(plan.row, plan.cut):
        after = low
        while rows := reader.query(_DIGESTS, (owner, after, high, PAGE_ROWS)):
            for after, digest in rows:
                yield after, previous, digest
                previous = digest


def _settled_projections(reader: Reader, plan: BranchPlan, former: Base | None) -> str:
    """Return the states of the user's projections at the cut as JSON: after it they cannot be folded any more."""
    known = registered_projections()
    for name, stored in msgspec.json.decode(former.projections if former else "{}").items():
        if name not in known or known[name].version != stored.get("version"):
            what = f"projection {name!r} version {stored.get('version')} was settled before and is not known here"
            raise CompactionError(plan.run, plan.branch, what)
    states = {}
    for name, chosen in known.items():
        try:
            state = rebuild_projection(reader, chosen, plan.run, plan.branch, plan.cut)
        except Exception as error:  # the user's code; asked for later, it says that its events are gone
            log.warning("projection_not_settled", projection=name, run=plan.run, error=repr(error))
            continue
        states[name] = {"version": chosen.version, "state": state}
    return msgspec.json.encode(states).decode()
