"""``eventlog compact``, as a person and as a program use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli_world import Cli
from tests.integration.test_compact import record


@pytest.fixture
def eventlog_cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Command lines against a log with one finished crew in it."""
    record(tmp_path / "log.db")
    return Cli(tmp_path / "log.db", capsys)


def test_the_command_tells_what_went(eventlog_cli: Cli) -> None:
    """A person sees counts and sizes; a program gets them as JSON."""
    dry = eventlog_cli("compact", "--max-checkpoints", "1", "--dry-run")
    done = eventlog_cli("compact", "r", "--max-checkpoints", "1", "--json")
    again = eventlog_cli("compact", "--max-checkpoints", "1")

    assert (dry.code, "WOULD BE DROPPED" in dry.out, "dry run" in dry.err) == (0, True, True)
    assert json.loads(done.out)["branches"][0]["dropped"] > 0
    assert "nothing to drop" in again.err


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("compact", "--max-checkpoints", "-1"), 2, "-1"),
        (("compact",), 2, "--max-checkpoints"),
        (("compact", "nobody", "--max-checkpoints", "1"), 1, "no run 'nobody'"),
        (("compact", "--max-checkpoints", "1", "--older-than", "soon"), 2, "7d"),
        (("compact", "--max-checkpoints", "1", "--import", "no_such_module"), 1, "no_such_module"),
    ],
)
def test_bad_input_is_told_in_a_line(args: tuple[str, ...], code: int, said: str, eventlog_cli: Cli) -> None:
    """Nothing is changed, no traceback."""
    shown = eventlog_cli(*args)

    assert (shown.code, said in shown.err, "Traceback" in shown.err) == (code, True, False)


def test_a_cursor_that_is_gone_is_told_with_the_oldest_that_is_left(eventlog_cli: Cli) -> None:
    """In a line, with the remedy."""
    done = eventlog_cli("compact", "--max-checkpoints", "1", "--json")
    cut = json.loads(done.out)["branches"][0]["cut"]
    shown = eventlog_cli("replay", "r", "--to", cut - 1)

    assert (shown.code, str(cut) in shown.err, "Traceback" in shown.err) == (1, True, False)


@pytest.mark.parametrize(
    "args",
    [
        ("runs",),
        ("log", "r"),
        ("replay", "r"),
        ("stats", "r"),
        ("branches", "r"),
        ("doctor",),
        ("resume", "r"),
        ("log",),
    ],
)
def test_every_command_reads_a_compacted_log(args: tuple[str, ...], eventlog_cli: Cli) -> None:
    """What is left is shown as ever."""
    eventlog_cli("compact", "--max-checkpoints", "0")

    assert eventlog_cli(*args).code == 0
