"""``eventlog fork``, ``branches`` and the comparison of branches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import eventlog
from tests.cli_world import RUN, Cli


def task_names(db: Path) -> list[str]:
    """Return the names of the demonstration's tasks."""
    with eventlog.open(db, readonly=True) as log:
        return [task.name for task in log.state(RUN).tasks]


def fork_json(cli: Cli, *args: object) -> dict[str, Any]:
    """Make a fork and return its JSON."""
    result = cli("fork", *args, "--json")
    assert result.code == 0, result.err
    found: dict[str, Any] = json.loads(result.out)
    return found


def test_fork_says_what_it_made_and_what_to_type_next(cli: Cli, db: Path) -> None:
    """A person sees which tasks will run again."""
    first, second, *_ = task_names(db)
    result = cli("fork", RUN, "--to", "latest", "--branch", "what-if", "--output", f"{first}=Nothing new.")

    assert (result.code, result.err) == (0, "")
    assert "what-if" in result.out
    assert f"eventlog replay {RUN} --branch what-if" in result.out
    assert f"eventlog resume {RUN} --branch what-if" in result.out
    assert second in result.out.partition("WILL RUN AGAIN")[2]


def test_without_a_run_an_event_brings_its_own_run_and_branch(cli: Cli) -> None:
    """As in ``replay --to``."""
    made = fork_json(cli, "--to", 20)
    again = fork_json(cli, RUN, "--from", made["branch"], "--to", 10, "--branch", "second")

    assert (made["run"], made["branch"], made["parent"], made["fork_seq"]) == (RUN, "fork-1", "main", 20)
    assert (again["parent"], again["fork_seq"]) == ("fork-1", 10)


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", 2), ("true", True), ('["a"]', ["a"]), ('{"a": 1}', {"a": 1}), ('"2"', "2"), ("oolong tea", "oolong tea"),
     ("", ""), ("null", "null"), ("a=b", "a=b"), ("[1", "[1")],
)  # fmt: skip
def test_inputs_are_json_or_else_text(cli: Cli, db: Path, text: str, value: object) -> None:
    """Numbers and lists without a detour, everything else as it stands."""
    fork_json(cli, RUN, "--to", "latest", "--branch", "x", "--input", f"tea={text}")
    with eventlog.open(db, readonly=True) as log:
        assert log.state(RUN, branch="x").inputs["tea"] == value


def test_an_output_may_come_from_a_file(cli: Cli, db: Path, tmp_path: Path) -> None:
    """Long texts do not fit on a command line."""
    (tmp_path / "text").write_text("line\n" * 1000, encoding="utf-8")
    fork_json(cli, RUN, "--to", "latest", "--branch", "x", "--output", f"#1=@{tmp_path / 'text'}")
    with eventlog.open(db, readonly=True) as log:
        assert log.state(RUN, branch="x").tasks[0].output == "line\n" * 1000


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ((RUN,), 2, "--to"),
        ((RUN, "--to", "latest", "--input", "tea"), 2, "--input K=V"),
        ((RUN, "--to", "latest", "--output", "=x"), 2, "--output TASK=TEXT"),
        ((RUN, "--to", "latest", "--input", "a=1", "--input", "a=2"), 2, "given twice"),
        ((RUN, "--to", "latest", "--output", "#1=@/no/such/file"), 2, "/no/such/file: No such file"),
        ((RUN, "--to", "latest", "--output", "nobody=x"), 1, "there are: "),
        ((RUN, "--to", "latest", "--branch", "main"), 1, "has a branch 'main' already"),
        ((RUN, "--to", "latest", "--branch", "a/b"), 1, "cannot be called 'a/b'"),
        ((RUN, "--to", "latest", "--from", "nobody"), 1, "nobody"),
        (("nobody", "--to", "latest"), 1, "no run 'nobody'"),
        (("--to", "999999"), 1, "no event '999999'"),
    ],
)
def test_bad_input_gives_one_line_and_a_remedy(cli: Cli, args: tuple[str, ...], code: int, words: str) -> None:
    """And makes no branch."""
    result = cli("fork", *args)

    assert result.code == code
    assert words in result.err
    assert "Hint: " in result.err
    assert len(json.loads(cli("branches", RUN, "--json").out)) == 1


def test_a_log_that_is_not_there_is_not_made(cli: Cli, tmp_path: Path) -> None:
    """A typing error must not leave a file."""
    cli.db = tmp_path / "nothing.db"
    result = cli("fork", "--to", "3")

    assert result.code == 1
    assert "there is no such log" in result.err
    assert not cli.db.exists()


def test_branches_draws_each_below_its_parent(cli: Cli) -> None:
    """In the order of their forks."""
    fork_json(cli, RUN, "--to", 30, "--branch", "late")
    fork_json(cli, RUN, "--to", 10, "--branch", "early")
    fork_json(cli, RUN, "--from", "late", "--to", "latest", "--branch", "inner")
    lines = cli("branches", RUN).out.splitlines()
    names = [line.split("  ")[0].rstrip() if not line.startswith(" ") else line.rstrip() for line in lines[3:]]

    assert [name.split("└─ ")[-1].split()[0] for name in names] == ["main", "early", "late", "inner"]
    assert lines[-1].startswith("   └─ inner")
    assert [b["branch"] for b in json.loads(cli("branches", "--json").out)] == ["main", "late", "early", "inner"]


def test_diff_of_two_branches_shows_tasks_outputs_and_tokens(cli: Cli, db: Path) -> None:
    """Without a cursor a branch is compared as it is now."""
    first = task_names(db)[0]
    fork_json(cli, RUN, "--to", "latest", "--branch", "what-if", "--output", f"{first}=Nothing new.")
    result = cli("diff", RUN, f"{RUN}/what-if")
    document = json.loads(cli("diff", RUN, f"{RUN}/what-if", "--json").out)
    [task] = [t for t in document["tasks"] if t["name"] == first]

    assert result.code == 3
    for part in ("TASKS", "OUTPUTS", "COUNTS", "eventlog.fork_edited", "Nothing new.", "llm total_tokens"):
        assert part in result.out
    assert (task["left"], task["right"], task["output_differs"]) == ("completed", "completed", True)
    assert document["counts"]["events"]["right"] == document["counts"]["events"]["left"] + 1
    assert cli("diff", f"{RUN}/main", RUN).code == 0
    assert "TASKS" not in cli("diff", f"{RUN}/main", RUN).out
    assert "no branch" in cli("diff", RUN, f"{RUN}/nobody").err
