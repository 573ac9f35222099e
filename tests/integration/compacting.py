"""Cut the log of a finished scenario, compact what is left, and let fresh objects go on from there."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import eventlog
from eventlog import CompactionReport
from tests.integration.resuming import RUN, Seen, _bring_back_memories, cut, happened, perform, problems, upto
from tests.scenarios import build


def compacted(file: Path, **options: Any) -> CompactionReport:
    """Compact a log as far as it goes; what cannot be compacted is a failure."""
    with eventlog.open(file) as log:
        before = log.state(RUN)
        report = log.compact(**{"max_checkpoints": 0, **options})

        assert report.ok, report
        assert log.state(RUN) == before
    return report


def sweep_compacted(whole: Seen, folder: Path, seqs: Iterable[int], **options: Any) -> list[str]:
    """Cut, compact and resume at each seq; returns a line for each problem found."""
    found = []
    for seq in seqs:
        left = upto(whole, seq)
        target = cut(whole.file, seq, folder / f"compacted-{whole.file.stem}-{seq}.db")
        compacted(target, **options)
        scenario = build(whole.name)
        scenario.world.go_on_after(happened(left))
        _bring_back_memories(whole, scenario, seq)
        resumed = perform(scenario, target)
        here = f"{whole.name} compacted after {seq} {left[-1].type} {left[-1].path[-60:]}"
        found += [f"{here}: {line}" for line in problems(whole, left, resumed) if not line.startswith("event ")]
        with suppress(OSError):
            target.unlink()
    return found
