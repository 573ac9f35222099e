"""Parent and child both go on after ``fork``: each with a connection and locks of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.conftest import Nursery
from tests.crash.test_death import witnessed
from tests.verifying import missing, numbers, problems


@pytest.mark.parametrize("durability", ["commit", "batch"])
def test_parent_and_children_lose_and_double_nothing(nursery: Nursery, tmp_path: Path, durability: str) -> None:
    """Four processes that were one, each with its own connection, queue and writer thread."""
    code = nursery.run("forks", "emit_on_both_sides", tmp_path, durability=durability)
    expected = [*range(60), *range(1000, 1060), *range(2000, 2060), *range(3000, 3060), *range(1_000_000, 1_000_006)]

    assert code == 0
    assert sorted(numbers(tmp_path / "log.db")) == expected
    assert missing(witnessed(tmp_path), tmp_path / "log.db") == []
    assert list(problems(tmp_path / "log.db")) == []


def test_a_child_keeps_its_events_when_the_parent_closes_the_log(nursery: Nursery, tmp_path: Path) -> None:
    """The parent is the last that SQLite knows of, and would remove the WAL the child writes to.

    Seen to fail: when the child keeps using the inherited connection, and when it opens its own while the inherited
    one is still open (its last eight events were lost).
    """
    code = nursery.run("forks", "outlive_the_parent", tmp_path)

    assert code == 0
    assert numbers(tmp_path / "log.db") == [0, 1, 100, *range(2, 10)]
    assert list(problems(tmp_path / "log.db")) == []


def test_fork_does_not_hang_while_other_threads_work(nursery: Nursery, tmp_path: Path) -> None:
    """Whatever lock another thread holds in the moment of the fork, the child never gets it back."""
    code = nursery.run("forks", "fork_under_load", tmp_path, forks=30)

    assert code == 0
    assert sorted(n for n in numbers(tmp_path / "log.db") if n < 0) == list(range(-30, 0))
    assert missing(witnessed(tmp_path), tmp_path / "log.db") == []
    assert list(problems(tmp_path / "log.db")) == []
