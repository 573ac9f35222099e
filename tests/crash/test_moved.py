"""The log's file is deleted, moved away or replaced while a crew runs: nobody writes where nobody will look."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import eventlog
from tests.crash.conftest import EMIT_S_MAX, Nursery
from tests.verifying import missing, numbers, problems, stored_ids

VANISHED = ["deleted", "deleted_with_neighbours", "moved_away"]


def run_crew(nursery: Nursery, folder: Path, **options: Any) -> dict[str, Any]:
    """Return what the child says, after what must hold whatever happens to the file."""
    code = nursery.run("moves", "crew", folder, **options)
    said: dict[str, Any] = json.loads((folder / "report.json").read_text())

    assert code == 0
    assert said["result"] == said["expected"]
    assert said["longest"] < EMIT_S_MAX
    assert (said["degraded"], said["failed"], said["queued"]) == (None, 0, 0)
    assert list(problems(log_of(folder))) == []
    return said


def log_of(folder: Path) -> Path:
    """Return where the log is."""
    return folder / "place" / "log.db"


def witnessed(folder: Path, name: str = "witness") -> list[str]:
    """Return the ids of the events whose emit returned: since the move, or ``before`` it."""
    return [line.split()[0] for line in (folder / name).read_text().splitlines()]


def gaps(path: Path) -> list[Any]:
    """Return the gaps on record."""
    with eventlog.open(path, readonly=True) as log:
        return [event.payload for event in log.events(types=["eventlog.capture_gap"])]


@pytest.mark.parametrize("durability", ["commit", "fsync", "batch"])
@pytest.mark.parametrize("move", VANISHED)
def test_a_log_that_vanishes_is_put_back_whole(nursery: Nursery, tmp_path: Path, move: str, durability: str) -> None:
    """What a path does not lead to any more is still open. Readers that have it open find it again, too.

    Seen to fail: without the look at the path.
    """
    said = run_crew(nursery, tmp_path, move=move, durability=durability)
    everything = witnessed(tmp_path, "witness.before") + witnessed(tmp_path)

    assert "deleted or moved away" in said["last_error"]
    assert missing(everything, log_of(tmp_path)) == []
    assert gaps(log_of(tmp_path)) == []
    assert said["seen"] == [len(stored_ids(log_of(tmp_path)))] * 2
    assert log_of(tmp_path).stat().st_mode & 0o077 == 0
    assert [p.name for p in log_of(tmp_path).parent.iterdir() if p.name.endswith(".part")] == []


def test_a_log_that_was_moved_away_is_whole_there(nursery: Nursery, tmp_path: Path) -> None:
    """Without its WAL, which cannot follow it, it would lack the newest events, or be damaged."""
    run_crew(nursery, tmp_path, move="moved_away")

    assert missing(witnessed(tmp_path, "witness.before"), tmp_path / "place" / "elsewhere.db") == []
    assert list(problems(tmp_path / "place" / "elsewhere.db")) == []


def test_a_log_goes_on_in_a_backup_of_itself(nursery: Nursery, tmp_path: Path) -> None:
    """Nothing is missing in it, so there is no gap; but the WAL of the former file must not get into it.

    Seen to fail: without the look at the path, and when what waited to be written again was counted as lost.
    """
    said = run_crew(nursery, tmp_path, move="replaced_by_a_copy")

    assert "replaced by another file" in said["last_error"]
    assert missing(witnessed(tmp_path, "witness.before") + witnessed(tmp_path), log_of(tmp_path)) == []
    assert gaps(log_of(tmp_path)) == []


@pytest.mark.parametrize("move", ["replaced_by_an_older_copy", "replaced_by_a_new_log"])
def test_a_log_goes_on_in_the_log_that_replaces_it_and_says_what_that_lacks(
    nursery: Nursery, tmp_path: Path, move: str
) -> None:
    """Whoever replaced it wants that one; the number of events that only the former one held is on record.

    Seen to fail: when contents were taken for stored that only the former file held.
    """
    said = run_crew(nursery, tmp_path, move=move)
    (gap,) = gaps(log_of(tmp_path))
    lacks = missing(witnessed(tmp_path, "witness.before"), log_of(tmp_path))
    with eventlog.open(log_of(tmp_path), readonly=True) as log:
        shown = json.dumps([event.payload for event in log.events("r")])

    assert missing(witnessed(tmp_path), log_of(tmp_path)) == []
    assert gap["dropped"] >= len(lacks) > 0
    assert "replaced by another file" in gap["cause"]
    assert "$content" not in shown
    assert said["seen"][0] == said["seen"][1]


def test_a_file_that_is_no_log_is_left_alone_and_events_wait(nursery: Nursery, tmp_path: Path) -> None:
    """Nobody's file is written into; when the log is back, nothing is lost."""
    said = run_crew(nursery, tmp_path, move="replaced_by_a_stranger", back="stranger_leaves")

    assert "no event log" in said["during"][0]
    assert missing(witnessed(tmp_path, "witness.before") + witnessed(tmp_path), log_of(tmp_path)) == []
    assert gaps(log_of(tmp_path)) == []


def test_a_folder_that_vanishes_is_not_made_again(nursery: Nursery, tmp_path: Path) -> None:
    """A folder is somebody else's; when there is one again, the log is put back."""
    said = run_crew(nursery, tmp_path, move="folder_deleted", back="folder_made")

    assert "unable to open" in said["during"][0] or "No such file" in said["during"][0]
    assert missing(witnessed(tmp_path, "witness.before") + witnessed(tmp_path), log_of(tmp_path)) == []


@pytest.mark.parametrize("move", ["deleted", "replaced_by_a_copy", "replaced_by_a_new_log"])
def test_a_lease_is_kept_when_the_log_moves(nursery: Nursery, tmp_path: Path, move: str) -> None:
    """Nobody took the branch over: a kickoff must not be stopped by what happened to the file.

    Seen to fail: when the new connection held no leases.
    """
    said = run_crew(nursery, tmp_path, move=move, leased=True)
    with eventlog.open(log_of(tmp_path), readonly=True) as log:
        branches = [info.branch for info in log.branches("r")]

    assert (said["lost"], said["held"]) == (False, 1)
    assert branches == ["main"]


def test_what_is_written_after_the_wal_alone_was_deleted_goes_into_the_file(nursery: Nursery, tmp_path: Path) -> None:
    """SQLite writes on into a WAL that nobody will read; a kill would lose it.

    Seen to fail: without ``without_wal``.
    """
    said = run_crew(nursery, tmp_path, move="wal_deleted")

    assert "log.db-wal was deleted" in said["last_error"]
    assert missing(witnessed(tmp_path, "witness.before") + witnessed(tmp_path), log_of(tmp_path)) == []


@pytest.mark.parametrize("move", VANISHED)
def test_several_writers_find_the_same_log_again(nursery: Nursery, tmp_path: Path, move: str) -> None:
    """One puts it back, the others go on in what it put back.

    Seen to fail: without the look at the path, and when the WAL stayed at the path.
    """
    code = nursery.run("moves", "writers", tmp_path, move=move, processes=3, events=200)
    acknowledged = [int(n) for i in range(3) for n in (tmp_path / f"acknowledged.{i}").read_text().split()]

    assert code == 0
    assert len(acknowledged) > 3 * 200
    assert sorted(numbers(tmp_path / "log.db")) == sorted(acknowledged)
    assert list(problems(tmp_path / "log.db")) == []


def test_a_new_log_takes_nothing_from_the_neighbours_of_a_deleted_one(tmp_path: Path) -> None:
    """SQLite would read the WAL that was left behind, or its index, into the next file of that name.

    Seen to fail: when the WAL stayed at the path.
    """
    path = tmp_path / "log.db"
    with eventlog.open(path) as former:
        former.append("test.former", {"n": 1})
        assert former.flush()
        path.unlink()
        with eventlog.open(tmp_path / "other.db") as other:
            other.append("test.other", {"n": 2})
        left = [(tmp_path / f"log.db{suffix}").exists() for suffix in ("-wal", "-shm")]
        code = "import eventlog,sys; l=eventlog.open(sys.argv[1]); l.append('test.new',{'n':3}); l.close()"
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)

    assert left == [True, True]
    assert numbers(path) == [3]
    assert list(problems(path)) == []


def test_a_reader_does_not_read_the_former_wal_into_the_next_log(tmp_path: Path) -> None:
    """It waits until those who write have taken it away, and says so when nobody does.

    Seen to fail: when it opened the next log at once.
    """
    path = tmp_path / "log.db"
    with eventlog.open(path) as former, eventlog.open(path, readonly=True) as reader:
        former.append("test.former", {"n": 1})
        assert [event.payload["n"] for event in reader.events()] == [1]
        with eventlog.open(tmp_path / "other.db") as other:
            other.append("test.other", {"n": 2})
        (tmp_path / "other.db").rename(path)

        with pytest.raises(eventlog.LogMovedError, match="-wal still belongs to the former file"):
            list(reader.events())
        former.append("test.later", {"n": 3})
        assert former.flush()
        assert [event.payload["n"] for event in reader.events() if "n" in event.payload][:1] == [2]
