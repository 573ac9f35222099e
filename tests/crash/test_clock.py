"""The clock goes back, or jumps: order is that of the sequence, patience that of the monotonic clock."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import eventlog
from eventlog.cursors import EPOCH
from tests.crash.conftest import EMIT_S_MAX, Nursery
from tests.crash.test_death import witnessed
from tests.verifying import missing, problems, query

HOUR_NS = 3_600_000_000_000


def report(folder: Path) -> dict[str, Any]:
    """Return what the child says."""
    said: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return said


@pytest.mark.parametrize("durability", ["commit", "batch"])
def test_a_crew_does_not_notice_that_the_clock_goes_wrong(faulty: Nursery, tmp_path: Path, durability: str) -> None:
    """Seqs say what came first, whatever the times say; a batch is written when it is due all the same.

    Seen to fail: when events were read in the order of their times.
    """
    code = faulty.run("clocks", "crew", tmp_path, durability=durability)
    said = report(tmp_path)
    times = [row[0] for row in query(tmp_path / "log.db", "SELECT at_ns FROM events ORDER BY seq")]
    with eventlog.open(tmp_path / "log.db", readonly=True) as log:
        state = log.state("r")

    assert code == 0
    assert said["result"] == said["expected"]
    assert said["prompt"] == [True, True]
    assert said["longest"] < EMIT_S_MAX
    assert (said["degraded"], said["failed"], said["queued"]) == (None, 0, 0)
    assert min(b - a for a, b in itertools.pairwise(times)) < -HOUR_NS / 2
    assert (state.status, len(state.tasks)) == ("completed", 6)
    assert missing(witnessed(tmp_path), tmp_path / "log.db") == []
    assert list(problems(tmp_path / "log.db")) == []


def test_a_time_as_cursor_means_the_last_event_that_is_not_after_it(faulty: Nursery, tmp_path: Path) -> None:
    """Where times repeat because the clock went back, all of them are before the cursor; none is left out.

    Seen to fail: when the first event after the time was looked for.
    """
    faulty.run("clocks", "crew", tmp_path, durability="commit")
    rows = query(tmp_path / "log.db", "SELECT seq, at_ns FROM events ORDER BY seq")
    back = next(i for i in range(1, len(rows)) if rows[i][1] < rows[i - 1][1] - HOUR_NS / 2)
    moment = timedelta(microseconds=rows[back + 2][1] // 1000)
    expected = max(seq for seq, at_ns in rows if at_ns // 1000 <= moment // timedelta(microseconds=1))
    with eventlog.open(tmp_path / "log.db", readonly=True) as log:
        found = log.cursor((EPOCH + moment).isoformat(), "r").seq

    assert found == expected
    assert found >= rows[back + 2][0]


def test_a_clock_that_jumps_takes_no_lease_from_a_living_process(faulty: Nursery, tmp_path: Path) -> None:
    """By the clock its lease is over; but whoever lives on this host is seen to live.

    Seen to fail: when an expired lease was free whoever held it.
    """
    code = faulty.run("clocks", "lease", tmp_path)
    said = report(tmp_path)

    assert code == 0
    assert said["refused"] == [True, True]
    assert said["lost"] is False
