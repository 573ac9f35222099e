"""``eventlog feature``: what is delivered, what is not, and who verified it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

import eventlog
from eventlog.ledger.book import Book
from eventlog.ledger.feature import Features
from tests.cli_world import Cli, environment, finish

RUN = "audit"
STEPS = ["no injection", "rate limit"]


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """A command line on a log with features in two runs, and on a fork of one."""
    with eventlog.open(tmp_path / "log.db") as log:
        features = Features(Book(log, RUN))
        auth = features.feature("auth", "Nobody gets in", category="security", test_steps=STEPS)
        auth.passed(STEPS[0], by="ann")
        auth.failed(STEPS[1], by="bob", reason="429 never comes")
        log.fork(RUN, branch="b")
        Features(Book(log, RUN, "b")).feature("on the fork", "")
        features.feature("docs", "Written", category="text").complete(by="ann")
        Features(Book(log, "other")).feature("auth", test_steps=STEPS).complete(force="no time")
        log.append("own.event", run="plain")
    return Cli(tmp_path / "log.db", capsys)


def found(cli: Cli, *args: object) -> list[tuple[str, str, str]]:
    """Return run, name and status of the features that a list shows."""
    listed: list[dict[str, Any]] = json.loads(cli("feature", "list", *args, "--json").out)
    return [(each["run"], each["name"], each["status"]) for each in listed]


AUTH, DOCS, OTHER = (RUN, "auth", "failed"), (RUN, "docs", "completed"), ("other", "auth", "completed")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], [AUTH, DOCS, OTHER]),
        ([RUN], [AUTH, DOCS]),
        (["--status", "completed"], [DOCS, OTHER]),
        (["--category", "security"], [AUTH]),
        ([RUN, "--branch", "b"], [AUTH, (RUN, "on the fork", "not_started")]),
        ([RUN, "--to", "2"], [(RUN, "auth", "in_progress")]),
        (["plain"], []),
    ],
)
def test_a_list_shows_what_is_asked_for(cli: Cli, args: list[str], expected: list[Any]) -> None:
    """Of all runs or of one, at any event of any branch."""
    assert found(cli, *args) == expected


def test_a_list_for_people_says_how_far_each_is(cli: Cli) -> None:
    """One line per feature."""
    heads, auth, docs, _ = cli("feature", "list").out.splitlines()

    assert heads.split()[:4] == ["RUN", "FEATURE", "STATUS", "PASSED"]
    assert auth.split()[:6] == [RUN, "auth", "failed", "1", "of", "2"]
    assert "ann, bob" in auth
    assert "ann" in docs


def test_a_list_of_nothing_says_so(cli: Cli) -> None:
    """No output at all would read like a failure; nor is it one."""
    results = [cli("feature", "list", *args) for args in (("--status", "parked"), ("plain",))]

    assert [(result.code, result.out) for result in results] == [(0, "")] * 2
    assert all("no such features" in result.err for result in results)


def test_a_page_shows_who_verified_what(cli: Cli) -> None:
    """The test steps with their verdicts, and all that was said before."""
    page = cli("feature", "show", RUN, "auth").out
    passed, failed = (line for line in page.splitlines() if line[:1] in "✓✗" and line)

    assert passed.split()[:5] == ["✓", "no", "injection", "passed", "ann"]
    assert failed.startswith("✗")
    assert failed.endswith("429 never comes")
    assert [line.split()[2] for line in page.split("HISTORY\n")[1].splitlines()[1:]] == ["defined", "passed", "failed"]
    assert "forced     no time" in cli("feature", "show", "other", "auth").out


def test_a_page_shows_a_feature_at_any_event(cli: Cli) -> None:
    """As it stood then."""
    page = cli("feature", "show", RUN, "auth", "--to", "1").out

    assert "status       not_started" in page
    assert "✓" not in page


def test_json_is_the_whole_feature(cli: Cli) -> None:
    """What the library returns, with its run."""
    shown = json.loads(cli("feature", "show", RUN, "auth", "--json").out)
    with eventlog.open(cli.db, readonly=True) as log:
        info = Features(Book(log, RUN)).info("auth")

    assert shown == {"run": RUN, **json.loads(msgspec.json.encode(info))}


@pytest.mark.parametrize(
    ("args", "code", "fragment"),
    [
        (("show", RUN, "nobody"), 1, "no feature 'nobody'"),
        (("show", "nobody", "auth"), 1, "no run 'nobody'"),
        (("show", RUN, "auth", "--to", "9999"), 1, "9999"),
        (("show", RUN), 2, "Missing argument 'FEATURE'"),
        (("list", "nobody"), 1, "no run 'nobody'"),
        (("list", RUN, "--branch", "c"), 1, "no branch 'audit/c'"),
        (("list", "--branch", "b"), 2, "needs RUN"),
        (("nonsense",), 2, "nonsense"),
    ],
)
def test_a_wrong_request_is_told_in_one_line(cli: Cli, args: tuple[str, ...], code: int, fragment: str) -> None:
    """One line, perhaps a hint, the right exit code; the log stays as it is."""
    before = cli.db.read_bytes()
    result = cli("feature", *args)
    first, *rest = result.err.splitlines()

    assert (result.code, result.out) == (code, "")
    assert first.startswith("Error: ")
    assert fragment in first
    assert all(line.startswith("Hint: ") for line in rest)
    assert cli.db.read_bytes() == before


def test_recorded_text_cannot_steer_the_terminal(cli: Cli) -> None:
    """A verifier may be a model."""
    evil = "\x1b]0;owned\x07hidden\u202e"
    with eventlog.open(cli.db) as log:
        feature = Features(Book(log, RUN)).feature(evil, evil, category=evil, test_steps=[evil])
        feature.failed(evil, by=evil, reason=evil)
        feature.update(status=evil)
    shown = [cli("feature", "list").out, cli("feature", "list", "--json").out, cli("feature", "show", RUN, evil).out]

    assert {char for text in shown for char in text if char in "\x1b\x07\u202e"} == set()
    assert all("hidden" in text for text in shown)


def test_looking_at_features_does_not_load_crewai(cli: Cli) -> None:
    """A glance must not take seconds; in a terminal without UTF-8 the marks are escaped, no error."""
    env = environment(PYTHONIOENCODING="ascii", PYTHONPROFILEIMPORTTIME="1")
    result = finish("feature", "show", RUN, "auth", "--db", cli.db, env=env)

    assert result.code == 0
    assert "no injection" in result.out
    assert " crewai" not in result.err


def test_a_list_of_all_runs_can_be_seen_at_any_event(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What had been defined by then, of every run."""
    cli = Cli(tmp_path / "log.db", capsys)
    with eventlog.open(cli.db) as log:
        log.ledger("one").feature("a", description="first")
        log.ledger("two").feature("b", description="second")
        seqs = [event.seq for event in log.events()]
    names = [[each["name"] for each in json.loads(cli("feature", "list", "--to", seq, "--json").out)] for seq in seqs]

    assert names == [["a"], ["a", "b"]]
