"""Several processes and threads at one file, and strangers who hold its lock: nobody notices, nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import eventlog
from tests.crash.conftest import Nursery
from tests.crash.test_death import witnessed
from tests.verifying import missing, numbers, problems


def report(folder: Path) -> dict[str, Any]:
    """Return what the child says."""
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("durabilities", [["commit"], ["commit", "batch", "fsync"]])
def test_a_crowd_at_one_file_loses_and_doubles_nothing(
    nursery: Nursery, tmp_path: Path, durabilities: list[str]
) -> None:
    """They also race to make the file. The hash chains prove that each writer saw what the others wrote.

    Seen to fail: with the heads cached across other processes' commits, and with ``BEGIN DEFERRED``.
    """
    size = {"processes": 3, "threads": 3, "events": 42}
    code = nursery.run("crowds", "crowd", tmp_path, durabilities=durabilities, **size)
    expected = [p * 1_000_000 + t * 1000 + n for p in range(3) for t in range(3) for n in range(42)]

    assert code == 0
    assert sorted(numbers(tmp_path / "log.db")) == expected
    assert list(problems(tmp_path / "log.db")) == []


@pytest.mark.parametrize(
    ("busy_s", "hold_s"), [(1.5, 3.0), pytest.param(5.0, 7.0, marks=pytest.mark.slow)], ids=["short", "as shipped"]
)
def test_a_foreign_lock_stalls_one_emit_once_and_loses_nothing(
    nursery: Nursery, tmp_path: Path, busy_s: float, hold_s: float
) -> None:
    """Promise 4. Seen to fail: when emitters in a degraded pipeline try the connection themselves."""
    code = nursery.run("crowds", "locked_out", tmp_path, busy_s=busy_s, hold_s=hold_s)
    said = report(tmp_path)
    first, *later = sorted(said["waits"], reverse=True)

    assert code == 0
    assert busy_s * 0.9 < first < busy_s + 1
    assert len(later) > 5
    assert max(later) < busy_s / 2
    assert "locked" in said["during"]
    assert said["queued"] > 5
    assert said["refused"] == "AppendError"
    assert (said["after"], said["failed"], said["queued_after"]) == (None, 0, 0)
    assert said["recovered_s"] < 1
    assert numbers(tmp_path / "log.db") == list(range(said["emitted"]))
    assert missing(witnessed(tmp_path), tmp_path / "log.db") == []
    assert list(problems(tmp_path / "log.db")) == []


def test_a_foreign_lock_stalls_one_request_once(nursery: Nursery, tmp_path: Path) -> None:
    """A service that enters a run per request must not wait for its log in each of them.

    Seen to fail: when entering a run that could not be written was not remembered as trouble, and when leaving waited.
    """
    busy_s = 1.5
    code = nursery.run("crowds", "requests", tmp_path, busy_s=busy_s)
    said = report(tmp_path)
    first, *later = sorted(said["waits"], reverse=True)

    assert code == 0
    assert busy_s * 0.9 < first < busy_s + 1
    assert max(later) < busy_s / 2
    assert "locked" in said["during"]
    assert (said["queued"], said["failed"]) == (8, 0)
    assert numbers(tmp_path / "log.db") == list(range(9))
    assert missing(witnessed(tmp_path), tmp_path / "log.db") == []
    assert list(problems(tmp_path / "log.db")) == []


def test_what_no_longer_fits_is_counted_and_the_gap_is_on_record(nursery: Nursery, tmp_path: Path) -> None:
    """Memory is bounded; a loss is never silent."""
    code = nursery.run("crowds", "overflow", tmp_path)
    said = report(tmp_path)
    with eventlog.open(tmp_path / "log.db", readonly=True) as log:
        gaps = [e.payload for e in log.events("r", types=["eventlog.capture_gap"])]

    assert code == 0
    assert said["failed"] > 100
    assert said["queued"] + said["failed"] == 200
    assert (said["after"], said["failed_after"]) == (None, said["failed"])
    assert [gap["dropped"] for gap in gaps] == [said["failed"]]
    assert "locked" in gaps[0]["cause"]
    assert numbers(tmp_path / "log.db") == [*range(said["queued"] + 1), 201]
    assert list(problems(tmp_path / "log.db")) == []
