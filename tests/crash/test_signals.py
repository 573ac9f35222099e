"""CrewAI's system-signal events: recorded, and the signal still does what it would have done."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.crash.conftest import Nursery
from tests.verifying import numbers, problems, stored_types


@pytest.mark.parametrize("durability", ["commit", "batch"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_is_recorded_and_ends_the_process_as_ever(
    nursery: Nursery, tmp_path: Path, name: str, durability: str
) -> None:
    """Supervisors look at how a process ended. For SIGINT that means KeyboardInterrupt was raised."""
    number = getattr(signal, name)
    code = nursery.run("signals", "receive", tmp_path, number=number, durability=durability)

    assert code == -number
    assert stored_types(tmp_path / "log.db") == ["test_counted", name]
    assert ("KeyboardInterrupt" in (tmp_path / "stderr").read_text()) == (name == "SIGINT")


def test_signal_events_can_be_declined(nursery: Nursery, tmp_path: Path) -> None:
    """``signals=False`` leaves the handlers alone."""
    code = nursery.run("signals", "receive", tmp_path, number=signal.SIGTERM, signals=False)

    assert code == -signal.SIGTERM
    assert stored_types(tmp_path / "log.db") == ["test_counted"]


def test_the_handler_of_the_program_is_still_called(nursery: Nursery, tmp_path: Path) -> None:
    """We chain; we do not replace."""
    code = nursery.run("signals", "receive_with_own_handler", tmp_path, number=signal.SIGTERM)

    assert (tmp_path / "handled").exists()
    assert code == 5
    assert stored_types(tmp_path / "log.db") == ["SIGTERM"]


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_in_the_middle_of_a_transaction_loses_neither_event(
    nursery: Nursery, tmp_path: Path, name: str, own: bool
) -> None:
    """The process ends when the write that was interrupted is over. Seen to fail: without ``postpone``."""
    number = getattr(signal, name)
    code = nursery.run("signals", "receive_while_appending", tmp_path, number=number, own=own)

    assert (tmp_path / "inside").exists()
    assert code == -number
    assert numbers(tmp_path / "log.db") == [1, 2]
    assert stored_types(tmp_path / "log.db")[-1] == name
    assert not (tmp_path / "survived").exists()
    assert list(problems(tmp_path / "log.db")) == []


def test_the_last_listener_puts_the_handlers_back(nursery: Nursery, tmp_path: Path) -> None:
    """Two listeners share one set of handlers."""
    assert nursery.run("signals", "leave", tmp_path) == 0


def test_stop_and_continue_work_and_are_recorded(nursery: Nursery, tmp_path: Path) -> None:
    """Ctrl-Z stops the process although there is a handler, more than once."""
    code = nursery.run("signals", "stop_and_go_on", tmp_path)

    assert code == 0
    assert stored_types(tmp_path / "log.db") == ["SIGTSTP", "SIGCONT"] * 2
