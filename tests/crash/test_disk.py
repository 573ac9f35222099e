"""The log's disk is full, broken or read-only for a while: the crew does not notice, what was acknowledged stays."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import eventlog
from tests.crash import shim
from tests.crash.conftest import EMIT_S_MAX, Nursery
from tests.crash.test_death import witnessed
from tests.torture import dice, rounds
from tests.verifying import missing, numbers, problems

SHIMMED = {
    "full": {"error": "ENOSPC"},
    "broken": {"error": "EIO"},
    "read-only": {"error": "EROFS"},
    "broken for reading, too": {"error": "EIO", "calls": shim.ALL | shim.READ},
}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder on a disk of 8 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def report(folder: Path) -> Any:
    """Return what the child says."""
    return json.loads((folder / "report.json").read_text())


def check_nothing_happened(code: int | None, folder: Path, disk: Path | None = None) -> None:
    """What must hold after every fault that ended."""
    said, file = report(folder), (disk or folder) / "log.db"

    assert code == 0
    assert said["result"] == said["expected"]
    assert all(cause for cause, _ in said["during"])
    assert said["during"][-1][1] > 10
    assert said["longest"] < EMIT_S_MAX
    assert (said["degraded"], said["failed"], said["queued"]) == (None, 0, 0)
    assert missing(witnessed(folder), file) == []
    assert list(problems(file)) == []


@pytest.mark.parametrize("durability", ["commit", "fsync", "batch"])
@pytest.mark.parametrize("options", SHIMMED.values(), ids=SHIMMED)
def test_a_crew_does_not_notice_that_the_disk_fails(
    faulty: Nursery, tmp_path: Path, options: dict[str, Any], durability: str
) -> None:
    """Events wait in memory and are written when the fault ends; ``status()`` says why.

    Seen to fail: when only a lock counted as the file's fault.
    """
    code = faulty.run("disks", "crew", tmp_path, fault="calls_fail", durability=durability, **options)

    check_nothing_happened(code, tmp_path)


@pytest.mark.parametrize("fault", ["no_more_pages", "no_longer_files"])
def test_a_crew_does_not_notice_a_limit(nursery: Nursery, tmp_path: Path, fault: str) -> None:
    """The signal SIGXFSZ that comes with RLIMIT_FSIZE must not end the process either."""
    code = nursery.run("disks", "crew", tmp_path, fault=fault, durability="commit")

    check_nothing_happened(code, tmp_path)


def test_a_crew_does_not_notice_a_really_full_disk(nursery: Nursery, tmp_path: Path, small_disk: Path) -> None:
    """Also the WAL's index, which is mapped into memory, must not kill the process with SIGBUS."""
    options = {"disk": str(small_disk), "durability": "commit", "wait_s": 0.05}
    code = nursery.run("disks", "crew", tmp_path, fault="no_space", **options)

    check_nothing_happened(code, tmp_path, small_disk)


def test_what_does_not_fit_in_memory_while_the_disk_fails_is_a_gap_on_record(faulty: Nursery, tmp_path: Path) -> None:
    """A loss is counted, and stands in the log with its cause. Seen to fail: without ``_record_gaps``."""
    options = {"fault": "calls_fail", "error": "ENOSPC", "durability": "commit", "queue_bytes": 20_000}
    code = faulty.run("disks", "crew", tmp_path, **options)
    said = report(tmp_path)
    with eventlog.open(tmp_path / "log.db", readonly=True) as log:
        gaps = [e.payload for e in log.events("r", types=["eventlog.capture_gap"])]
    lost = missing(witnessed(tmp_path), tmp_path / "log.db")

    assert code == 0
    assert said["result"] == said["expected"]
    assert said["failed"] >= len(lost) > 0
    assert sum(gap["dropped"] for gap in gaps) == said["failed"]
    assert all("full" in gap["cause"] for gap in gaps)
    assert list(problems(tmp_path / "log.db")) == []


def test_runs_can_begin_and_end_while_the_disk_is_full(faulty: Nursery, tmp_path: Path) -> None:
    """A service must not fail its requests because of its log, nor wait for it again and again.

    Seen to fail: when ``enter_run`` raised, and when ``leave_run`` waited for the disk.
    """
    code = faulty.run("disks", "requests", tmp_path, error="ENOSPC")
    said = report(tmp_path)
    with eventlog.open(tmp_path / "log.db", readonly=True) as log:
        statuses = {run.run: run.status for run in log.runs()}

    assert code == 0
    assert said["results"] == [said["expected"]] * 3
    assert said["longest"] < EMIT_S_MAX
    assert said["during"][0] is not None
    assert statuses == dict.fromkeys(("before", "first", "second"), "completed")
    assert (said["degraded"], said["failed"], said["queued"]) == (None, 0, 0)
    assert missing(witnessed(tmp_path), tmp_path / "log.db") == []
    assert list(problems(tmp_path / "log.db")) == []


@pytest.mark.torture
@pytest.mark.parametrize("durability", ["commit", "fsync"])
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_whichever_write_fails_an_append_happens_or_is_refused(
    faulty: Nursery, tmp_path: Path, error: str, durability: str
) -> None:
    """Also the write of the commit itself, and the fsync behind it: then the disk may have it all the same.

    Seen to fail: when the appender kept what a rolled-back transaction had taught it, and when an append that came
    right after the trouble was refused because of it.
    """
    calls = shim.WRITE | shim.SYNC | shim.TRUNCATE
    options = {"error": error, "calls": calls, "durability": durability, "rounds": rounds(90, 300)}
    code = faulty.run("disks", "each_write_fails_once", tmp_path, **options)
    said = report(tmp_path)
    found = [n for n in numbers(tmp_path / "log.db") if n >= 0]

    assert code == 0
    assert set(said["accepted"]) <= set(found)
    assert set(found) <= {*said["accepted"], *said["refused"]}
    assert len(said["refused"]) > 40
    assert all(n in said["accepted"] for n in range(2, max(found) + 1) if n // 2 % 2)
    assert all((n ^ 1) in found for n in found if n > 0)
    assert said["degraded"] is None
    assert list(problems(tmp_path / "log.db")) == []


@pytest.mark.torture
@pytest.mark.parametrize("exists", [False, True], ids=["new", "there"])
@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EROFS"])
def test_a_log_that_cannot_be_opened_says_why_and_leaves_nothing_half_made(
    faulty: Nursery, tmp_path: Path, error: str, exists: bool
) -> None:
    """Whichever call of the system fails meanwhile; afterwards it opens as if nothing had been.

    Seen to fail: without ``_remove``, and when "unable to open" had no remedy.
    """
    stride = rounds(3 if exists else 11, 2)
    options = {"error": error, "exists": exists, "first": dice(error).randrange(stride), "stride": stride}
    code = faulty.run("disks", "opening_fails", tmp_path, timeout=100, **options)
    said = report(tmp_path)

    assert code == 0
    assert len({outcome for outcome, *_ in said}) > 2
    for outcome, appended, unchanged, found in said:
        assert outcome == "opened" or (outcome.startswith("LogUnwritableError") and "log.db: " in outcome)
        assert unchanged or outcome == "opened"
        assert (0 in found) == exists
        assert 1 in found or not appended
        assert set(found) <= {0, 1}
