"""Model calls that are not taken from the tape: what failed last is tried again. Pure."""

from __future__ import annotations

from collections import defaultdict

from eventlog.lineage import SEQ_MAX
from eventlog.resume.exchanges import unit_of
from eventlog.resume.tape import Tape


def drop_last_failures(tape: Tape, before: int = SEQ_MAX) -> None:
    """Take model calls off that failed, or said nothing, and that nothing good came after; up to a seq.

    So is the last answer of a task that failed because its guardrail took none: it would be refused again.
    """
    good: dict[str, int] = defaultdict(int)
    last: dict[str, int] = defaultdict(int)
    for lane, exchanges in tape.llm.items():
        unit = unit_of(lane)
        for exchange in (e for e in exchanges if e.seq < before):
            last[unit] = max(last[unit], exchange.seq)
            good[unit] = max(good[unit], exchange.seq if exchange.is_good else 0)
    for lane, exchanges in tape.llm.items():
        unit = unit_of(lane)
        refused = last[unit] if any(last[unit] < seq < before for seq in tape.rejected.get(unit, ())) else None
        tape.llm[lane] = [
            e for e in exchanges if e.seq > before or (e.seq != refused and (e.is_good or e.seq < good[unit]))
        ]
