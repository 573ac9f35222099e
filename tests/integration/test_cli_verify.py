"""``eventlog verify``: what a person and a program see of a sound and of a damaged log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import eventlog
from eventlog.chain_key import VARIABLE
from tests.cli_world import RUN, Cli
from tests.damage import edit, page_bytes, pages_of, zero_page

DAMAGED = 3


@pytest.fixture
def small(cli: Cli, tmp_path: Path) -> Cli:
    """The command line on a log of ten events."""
    cli.db = tmp_path / "small.db"
    with eventlog.open(cli.db) as log:
        log.append_many([("some.thing", {"n": n}) for n in range(10)], run="r")
    return cli


def report_of(cli: Cli, *args: object) -> dict[str, Any]:
    """Return what ``--json`` says."""
    found: dict[str, Any] = json.loads(cli("verify", *args, "--json").out)
    return found


@pytest.mark.parametrize("args", [(), ("--deep",), (RUN,), (RUN, "--deep")])
def test_a_recorded_run_is_sound(cli: Cli, args: tuple[str, ...]) -> None:
    """The demonstration's crew, as it was recorded."""
    result = cli("verify", *args)

    assert result.code == 0
    assert "the log holds together" in result.out
    assert "damage" not in result.out.replace("accidental damage", "")
    assert cli("verify", *args, "--json").code == 0


def test_what_a_check_can_find_is_said_exactly(small: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody shall take it for more than it is."""
    plain = small("verify")
    monkeypatch.setenv(VARIABLE, "k")
    small.db = tmp_path / "keyed.db"
    eventlog.open(small.db).close()
    keyed = small("verify")
    monkeypatch.delenv(VARIABLE)
    unchecked = small("verify")

    assert "without a key: finds accidental damage, not tampering" in plain.out
    assert "with EVENTLOG_KEY: finds tampering, too" in keyed.out
    assert "EVENTLOG_KEY is not set: digests were not checked" in unchecked.out
    assert "a cut tail shows only against a head kept elsewhere: eventlog verify --head HEAD" in plain.err


def test_damage_has_an_exit_code_of_its_own_and_names_the_first_bad_seq(small: Cli) -> None:
    """A script asks the exit code, a person reads the first lines."""
    edit(small.db, "UPDATE events SET flags = 1 WHERE seq IN (4, 7)")

    result = small("verify")
    report = report_of(small)

    assert result.code == DAMAGED
    assert "DAMAGED: 2 findings, first at seq 4" in result.out
    assert "run r: what stands before seq 4" in result.out
    assert "eventlog repair --into NEW" in result.err
    assert (report["ok"], report["first_bad_seq"]) == (False, 4)
    assert [finding["seq"] for finding in report["findings"]] == [4, 7]


def test_a_head_finds_a_cut_tail(small: Cli, tmp_path: Path) -> None:
    """Given as text, or in a file."""
    head = report_of(small)["head"]
    (tmp_path / "head.txt").write_text(head + "\n")
    assert small("verify", "--head", head).code == 0
    edit(small.db, "DELETE FROM events WHERE seq > 8")

    assert small("verify").code == 0
    assert small("verify", "--head", head).code == DAMAGED
    result = small("verify", "--head", f"@{tmp_path / 'head.txt'}")
    assert result.code == DAMAGED
    assert "the tail was cut off, or the log rolled back" in result.out


@pytest.mark.parametrize("head", ["elephant", "@/nowhere/head.txt"])
def test_a_head_that_is_none_is_wrong_usage(small: Cli, head: str) -> None:
    """Exit code 2: the log has not been looked at."""
    result = small("verify", "--head", head)

    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Error: --head: ")


def test_what_is_not_there_cannot_be_damaged(small: Cli, tmp_path: Path) -> None:
    """Exit code 1, one line and a hint."""
    no_run = small("verify", "nobody")
    small.db = tmp_path / "none.db"
    no_log = small("verify")

    assert (no_run.code, no_log.code) == (1, 1)
    assert "no run 'nobody'" in no_run.err
    assert "there is no such log" in no_log.err


def test_a_file_that_is_no_log_is_exit_code_1(small: Cli, tmp_path: Path) -> None:
    """It cannot be damaged as one."""
    small.db = tmp_path / "letter.db"
    small.db.write_text("Dear log, how are you?\n" * 100)

    result = small("verify")

    assert result.code == 1
    assert "Traceback" not in result.err
    assert result.err.startswith("Error: ")


def test_a_log_that_sqlite_refuses_is_damaged(cli: Cli) -> None:
    """Its first page is gone; what else is there says what it was."""
    zero_page(cli.db, 1)

    result = cli("verify")

    assert result.code == DAMAGED
    assert "SQLite refuses it" in result.out
    assert "eventlog repair" in result.out


def test_a_zeroed_page_of_events_is_told_by_run_and_seqs(cli: Cli) -> None:
    """In the middle of the recorded run."""
    zero_page(cli.db, pages_of(cli.db, "events")[1])

    report = report_of(cli)

    page = next(finding for finding in report["findings"] if finding["kind"] == "page")
    assert (page["run"], page["branch"]) == (RUN, "main")
    assert report["first_bad_seq"] == page["seq"]
    assert cli("verify").code == DAMAGED


def test_a_truncated_copy_is_read_as_far_as_it_goes(cli: Cli) -> None:
    """A copy that ran out of space."""
    with cli.db.open("r+b") as file:
        file.truncate(cli.db.stat().st_size - 3 * page_bytes(cli.db))

    result = cli("verify")

    assert result.code == DAMAGED
    assert "STILL READABLE" in result.out


def test_a_wrong_key_is_told(small: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Exit code 1: the request failed, nothing is said about the log."""
    monkeypatch.setenv(VARIABLE, "k")
    small.db = tmp_path / "keyed.db"
    eventlog.open(small.db).close()
    monkeypatch.setenv(VARIABLE, "another")

    result = small("verify")

    assert (result.code, result.out) == (1, "")
    assert "EVENTLOG_KEY is not the key" in result.err
