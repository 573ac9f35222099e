"""``eventlog session``: where a pipeline stands, at a glance and at any event; what a person may say about it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import eventlog
from eventlog.ledger.events import StepStarted
from tests.cli_world import Cli, start
from tests.integration.pipelines import ITEMS, RUN, done


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """A command line on a log that holds a pipeline."""
    done(tmp_path / "log.db")
    return Cli(tmp_path / "log.db", capsys)


def test_a_list_shows_every_pipeline_and_nothing_else(cli: Cli) -> None:
    """A run without steps is no session."""
    with eventlog.open(cli.db) as log:
        log.append("other.thing", run="other")
    text, found = cli("session", "list"), json.loads(cli("session", "list", "--json").out)

    assert "3 of 3" in text.out
    assert "other" not in text.out
    assert [(each["run"], each["status"], each["completed_items"]) for each in found] == [(RUN, "completed", ITEMS)]


def test_a_page_shows_items_at_any_event(cli: Cli) -> None:
    """With ``--to`` it is the page of then."""
    with eventlog.open(cli.db, readonly=True) as log:
        second = [event.seq for event in log.events(RUN, types=[StepStarted.event_type])][1]
    now, then = cli("session", "show", RUN), cli("session", "show", RUN, "--to", second)
    found = json.loads(cli("session", "show", RUN, "--to", second, "--json").out)

    assert (now.code, then.code) == (0, 0)
    assert "3 of 3" in now.out
    assert "1 of 3" in then.out
    assert (found["in_progress_item"], found["next_items"]) == ("fix", ["report"])


def test_what_a_person_says_is_on_record(cli: Cli) -> None:
    """Invalidate, block, unblock, release: each is an event, and the next page shows it."""
    said = [
        cli("session", "invalidate", RUN, "fix", "--reason", "too short"),
        cli("session", "block", RUN, "report", "waiting"),
        cli("session", "unblock", RUN, "report"),
        cli("session", "release", RUN, "scan"),
    ]
    page = cli("session", "show", RUN)

    assert [result.code for result in said] == [0, 0, 0, 0]
    assert [result.out for result in said[:2]] == [
        "fix is stale\n",
        "report is completed; if it has to be done again, it is blocked: waiting\n",
    ]
    assert "2 of 3" in page.out


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (("show", "nope"), 1, "no run 'nope'"),
        (("show", RUN, "--branch", "nope"), 1, f"no branch '{RUN}/nope'"),
        (("show", RUN, "--to", "999999"), 1, "999999"),
        (("invalidate", RUN, "nope"), 1, "no item 'nope'"),
        (("invalidate", "nope", "scan"), 1, "no run 'nope'"),
        (("show", RUN, "--watch", "--to", "3"), 2, "--watch"),
        (("show",), 2, "RUN"),
    ],
)
def test_bad_input_gets_one_line_and_a_remedy(cli: Cli, args: tuple[str, ...], code: int, told: str) -> None:
    """No traceback, nothing changed."""
    before = cli("session", "show", RUN, "--json").out
    result = cli("session", *args)

    assert (result.code, told in result.err, "Hint: " in result.err) == (code, True, True)
    assert cli("session", "show", RUN, "--json").out == before


def test_a_log_that_is_not_there_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A typo in ``--db`` must not leave a file."""
    cli = Cli(tmp_path / "none.db", capsys)

    assert [cli("session", *args).code for args in (("list",), ("show", "r"), ("invalidate", "r", "i"))] == [1, 1, 1]
    assert not cli.db.exists()


def test_watching_ends_when_all_is_done(tmp_path: Path) -> None:
    """Whoever watches sees each step end, and gets the prompt back."""
    file = tmp_path / "log.db"
    with eventlog.open(file) as log, log.run(RUN, items=["a", "b"]) as run:
        child = start("session", "show", RUN, "--watch", "--db", file)
        time.sleep(2)
        for item in ("a", "b"):
            run.step(item, time.sleep, 0.8)
        out, err = child.communicate(timeout=30)

    assert (child.returncode, err) == (0, "")
    assert [text in out for text in ("0 of 2", "1 of 2", "2 of 2")] == [True, True, True]


def test_a_list_can_be_seen_at_any_event(cli: Cli) -> None:
    """Where every pipeline stood by then; those that had not begun are not there."""
    with eventlog.open(cli.db) as log, log.run("later", items=["x"]):
        begun = next(event.seq for event in log.events("later"))
    then, now = (json.loads(cli("session", "list", "--to", to, "--json").out) for to in (begun - 1, begun))
    early = json.loads(cli("session", "list", "--to", 2, "--json").out)

    assert [each["run"] for each in then] == [RUN]
    assert [each["run"] for each in now] == [RUN, "later"]
    assert [(each["run"], each["completed_items"]) for each in early] == [(RUN, [])]
