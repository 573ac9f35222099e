"""``eventlog bench``: what durability costs on a disk."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from eventlog.cli.main import run
from eventlog.log import open_log
from tests.cli_world import COMMAND


def test_every_mode_is_measured_beside_plain_sqlite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each cost has its samples, and nothing is left in the folder."""
    folder = tmp_path / "logs"
    folder.mkdir()

    assert run(["bench", "--db", str(folder / "eventlog.db"), "--events", "20", "--json"]) == 0

    report = json.loads(capsys.readouterr().out)
    assert [cost["name"] for cost in report["costs"]] == [
        "bare write + fsync", "bare INSERT", "commit", "fsync", "batch",
    ]  # fmt: skip
    for cost in report["costs"]:
        assert cost["events"] == 20
        assert 0 < cost["p50_us"] <= cost["p95_us"] <= cost["p99_us"] <= cost["longest_us"]
    assert report["folder"] == str(folder)
    assert list(folder.iterdir()) == []


def test_a_log_in_the_folder_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The events go into logs of their own."""
    path = tmp_path / "eventlog.db"
    with open_log(path) as log:
        log.append("user.note", {"n": 1}, run="r")
    before = path.read_bytes()

    assert run(["bench", "--db", str(path), "--events", "20", "--kilobytes", "0.5"]) == 0

    assert path.read_bytes() == before
    shown = capsys.readouterr().out
    assert "BESIDE A BARE INSERT" in shown
    assert "0.5 KB of text" in shown


def test_a_folder_that_is_not_there_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is made for it."""
    assert run(["bench", "--db", str(tmp_path / "no" / "eventlog.db"), "--events", "20"]) == 1

    assert f"Error: {tmp_path}/no: No such file or directory" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_a_folder_that_is_given_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not the one it is in: that may be another disk. As many events as are asked for, or a few more."""
    assert run(["bench", "--db", str(tmp_path), "--events", "23", "--json"]) == 0

    report = json.loads(capsys.readouterr().out)
    assert report["folder"] == str(tmp_path)
    assert {cost["events"] for cost in report["costs"]} == {30}


def test_what_is_no_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A device has no disk to measure."""
    assert run(["bench", "--db", "/dev/null"]) == 1

    assert "Error: /dev/null: not a regular file" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_behind_when_it_is_ended(tmp_path: Path, number: signal.Signals) -> None:
    """By ``timeout``, say, or a terminal that is closed."""
    command = [*COMMAND, "bench", "--db", str(tmp_path), "--events", "20000"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not any(tmp_path.glob(".eventlog-bench-*/*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)

    assert process.returncode == 128 + number
    assert list(tmp_path.glob(".eventlog-bench-*")) == []


@pytest.mark.parametrize("wrong", [["--events", "3"], ["--kilobytes", "0"], ["--kilobytes", "nan"]])
def test_wrong_numbers_are_wrong_usage(wrong: list[str]) -> None:
    """Too few events would say nothing."""
    assert run(["bench", *wrong]) == 2
