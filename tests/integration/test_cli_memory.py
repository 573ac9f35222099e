"""``eventlog memory``: what agents remembered, on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import eventlog
from eventlog import Memory
from tests.cli_world import Cli, environment

READING = [("search", "auth"), ("search", ""), ("list",), ("list", "--json"), ("show", "finding-1")]


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A log in which two runs, a fork and nobody remember something."""
    path = tmp_path / "x.db"
    with eventlog.open(path) as log:
        audit = Memory(log, "audit")
        audit.save("SQL injection in auth module", metadata={"severity": "critical", "n": 3}, agent="scanner",
                   memory_id="finding-1")  # fmt: skip
        audit.save("my guess about auth", scope="agent-private", agent="scanner", memory_id="guess")
        log.fork("audit", branch="b")
        Memory(log, "audit", "b").save("auth of the fork", memory_id="fork")
        Memory(log, "other").save("auth is slow", memory_id="slow")
        Memory(log, namespace="rules").save("never commit auth tokens", scope="global", memory_id="rule")
        audit.correct("finding-1", "SQL injection in auth and billing", by="reviewer")
    return path


def ids(cli: Cli, *args: object) -> list[str]:
    """Return the ids of what a command line finds."""
    result = cli("memory", *args, "--json")
    assert result.code == 0, result.err
    return [found["id"] for found in json.loads(result.out)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {"finding-1", "slow", "rule"}),
        (["--agent", "scanner"], {"finding-1", "guess", "slow", "rule"}),
        (["--namespace", "audit"], {"finding-1", "rule"}),
        (["--run", "audit"], {"finding-1", "rule"}),
        (["--run", "audit", "--branch", "b"], {"finding-1", "fork", "rule"}),
        (["--run", "audit", "--namespace", "other"], {"slow", "rule"}),
        (["--scope", "global"], {"rule"}),
        (["--meta", "severity=critical"], {"finding-1"}),
        (["--meta", "n=3"], {"finding-1"}),
        (["--meta", 'n="3"'], set()),
        (["--meta", "severity=critical", "--meta", "n=4"], set()),
        (["--to", "1"], {"finding-1"}),
        (["--to", "1999-01-01"], set()),
    ],
)
def test_options_say_whose_memory_and_which_of_it(cli: Cli, options: list[str], expected: set[str]) -> None:
    """The same for a search, for one without words, and for the list."""
    assert set(ids(cli, "search", "auth", *options)) == expected
    assert set(ids(cli, "search", "", *options)) == expected
    assert set(ids(cli, "list", *options)) == expected


def test_a_search_shows_the_best_first_with_its_score(cli: Cli) -> None:
    """For people, in a table."""
    result = cli("memory", "search", "injections auth", "--limit", "1")

    head, row = result.out.splitlines()
    assert head.split() == ["SCORE", "ID", "NAMESPACE", "SCOPE", "AGENT", "VALUE", "METADATA"]
    assert row.split()[1:5] == ["finding-1", "audit", "agent-shared", "scanner"]
    assert "SQL injection in auth and billing" in row
    assert float(row.split()[0]) > 0


def test_show_tells_who_said_what_and_when(cli: Cli) -> None:
    """By the beginning of an id; also at an earlier cursor."""
    result = cli("memory", "show", "find")
    document = json.loads(cli("memory", "show", "finding-1", "--json").out)

    assert "SQL injection in auth module" in result.out.split("HISTORY")[1]
    assert "reviewer" in result.out.split("HISTORY")[1]
    assert [(it["action"], it["by"]) for it in document["history"]] == [("saved", "scanner"), ("corrected", "reviewer")]
    assert document["memory"]["value"] == "SQL injection in auth and billing"
    assert json.loads(cli("memory", "show", "finding-1", "--to", "1", "--json").out)["memory"]["value"].endswith(
        "module"
    )


def test_show_of_a_deleted_one_tells_who_deleted_it(cli: Cli) -> None:
    """It is not found any more; what happened to it is."""
    with eventlog.open(cli.db) as log:
        Memory(log, "audit").delete("finding-1", reason="fixed in 1.2", by="reviewer")
    result = cli("memory", "show", "finding-1")

    assert result.code == 0
    assert "fixed in 1.2" in result.out
    assert "it was deleted" in result.err
    assert "finding-1" not in ids(cli, "list")


@pytest.mark.parametrize(
    ("args", "code", "fragment"),
    [
        (["show", "guess"], 1, "no memory 'guess'"),
        (["show", "nothing"], 1, "no memory 'nothing'"),
        (["search"], 2, "QUERY"),
        (["search", "x", "--branch", "b"], 2, "--branch needs --run"),
        (["search", "x", "--run", "nobody"], 1, "no run 'nobody'"),
        (["search", "x", "--run", "audit", "--branch", "no"], 1, "no branch 'audit/no'"),
        (["search", "x", "--meta", "severity"], 2, "write K=V"),
        (["search", "x", "--scope", "everybody"], 2, "everybody"),
        (["list", "--to", "9999"], 1, "9999"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_a_wrong_request_is_told_in_one_line(cli: Cli, args: list[str], code: int, fragment: str) -> None:
    """What is private is not there for others."""
    result = cli("memory", *args) if args != ["nonsense"] else cli("memory", "nonsense")

    assert result.code == code
    assert result.out == ""
    assert fragment in result.err.splitlines()[0]


def test_nothing_found_says_where_else_to_look(cli: Cli) -> None:
    """No output at all would read like a failure."""
    result = cli("memory", "search", "unicorns")

    assert (result.code, result.out) == (0, "")
    assert "--agent" in result.err


@pytest.mark.parametrize("args", READING, ids=" ".join)
def test_looking_changes_no_byte_and_loads_nothing_slow(db: Path, args: tuple[str, ...]) -> None:
    """CrewAI alone takes seconds; the index needs sqlite-utils, and only when there are words to look for."""
    before = db.read_bytes()
    program = (
        "import sys; from eventlog.cli.main import run; run(sys.argv[1:]);"
        "slow = ['crewai', 'sqlite_utils', 'structlog', 'rich', 'pydantic'];"
        "print([name for name in slow if name in sys.modules], file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, "memory", *args, "--db", str(db)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, encoding="utf-8")

    assert done.stderr.splitlines()[-1] == ("['sqlite_utils']" if args == ("search", "auth") else "[]")
    assert db.read_bytes() == before


@pytest.mark.parametrize("name", ["search", "list", "show"])
def test_every_help_has_an_example(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """People copy examples; they do not read grammars."""
    from eventlog.cli.main import run

    assert run(["memory", name, "--help"]) == 0
    assert "Example" in capsys.readouterr().out


def test_recorded_text_cannot_steer_the_terminal(cli: Cli) -> None:
    """A model may write anything."""
    evil = "\x1b]0;owned\x07\x1b[2Jhidden\x9b31m\u202e\r\x00"
    with eventlog.open(cli.db) as log:
        name = Memory(log, namespace=evil).save({evil: evil}, metadata={evil: evil}, agent=evil, scope="global")
    shown = [cli("memory", *args) for args in (["search", "owned"], ["list"], ["show", name], ["show", name, "--json"])]

    assert all("hidden" in it.out for it in shown)
    assert not {char for it in shown for char in it.out + it.err if char in "\x1b\x07\x9b\u202e\r\x00"}
