"""A signal handler may emit, or raise, at any instruction of ours: nothing is lost, stuck or out of order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.crash.conftest import Nursery
from tests.verifying import missing, numbers, problems, query

EVENTS = {"commit": 2500, "batch": 18_000}


def report(folder: Path) -> dict[str, Any]:
    """Return what the child says."""
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


@pytest.mark.parametrize("durability", EVENTS)
def test_a_handler_that_emits_loses_nothing_and_keeps_the_order(
    nursery: Nursery, tmp_path: Path, durability: str
) -> None:
    """Thousands of handlers, hundreds of them inside a capture or a transaction.

    Seen to fail: when the handler's events are stored before the emission they interrupt (order), and when
    a write does not look whether it is its own thread's that it interrupts (a transaction in a transaction).
    """
    options = {"durability": durability, "events": EVENTS[durability], "raises": False}
    code = nursery.run("timers", "ticking", tmp_path, **options)
    said = report(tmp_path)
    sequence = [row[0] for row in query(tmp_path / "log.db", "SELECT emission FROM events WHERE emission > 0")]

    assert code == 0
    assert (said["failed"], said["degraded"], said["in_transaction"]) == (0, None, False)
    assert said["inside"] > 50
    assert missing(said["ids"], tmp_path / "log.db") == []
    assert list(problems(tmp_path / "log.db")) == []
    assert sequence == sorted(set(sequence))


@pytest.mark.parametrize("durability", EVENTS)
def test_a_handler_that_raises_loses_nothing_whose_emit_returned(
    nursery: Nursery, tmp_path: Path, durability: str
) -> None:
    """The interrupt comes out of ``emit``, after what it interrupted was finished.

    Seen to fail: with ``BEGIN`` outside the ``try`` of ``storage.transaction`` (the connection stays in it).
    """
    options = {"durability": durability, "events": EVENTS[durability], "raises": True}
    code = nursery.run("timers", "ticking", tmp_path, **options)
    said = report(tmp_path)

    assert code == 0
    assert said["raised"] > 50
    assert (said["failed"], said["degraded"], said["in_transaction"]) == (0, None, False)
    assert missing(said["ids"], tmp_path / "log.db") == []
    assert list(problems(tmp_path / "log.db")) == []


@pytest.mark.parametrize("durability", EVENTS)
def test_a_handler_may_emit_while_an_event_of_ours_is_appended(
    nursery: Nursery, tmp_path: Path, durability: str
) -> None:
    """``log.append`` is no emission, and shares the connection with them all the same."""
    code = nursery.run("timers", "appending", tmp_path, durability=durability, events=1500)
    said = report(tmp_path)

    assert code == 0
    assert said["inside"] > 50
    assert missing(said["ids"], tmp_path / "log.db") == []
    assert said["seqs"] == sorted(set(said["seqs"]))
    assert [n for n in numbers(tmp_path / "log.db") if n >= 0] == list(range(1500))
    assert list(problems(tmp_path / "log.db")) == []
