"""The commands that look at a log."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

import eventlog
from eventlog.cli.main import COMMANDS, run
from tests.cli_world import RUN, Cli, Result, environment

READING = [
    ("runs",),
    ("log",),
    ("log", RUN, "--tail", "3"),
    ("show", "20"),
    ("replay",),
    ("replay", "--to", "20"),
    ("diff", "20", "40"),
    ("stats",),
    ("stats", RUN, "--by", "agent"),
    ("doctor", "--no-probe"),
    ("export", RUN, "-o", "-"),
]
"""Command lines that must not change a log."""


def seqs_of(db: Path, *types: str) -> list[int]:
    """Return where events of these types (all: none given) stand."""
    with eventlog.open(db, readonly=True) as log:
        return [event.seq for event in log.events(RUN, types=types or None)]


@pytest.fixture
def middle(db: Path) -> int:
    """A moment in the second of the three tasks."""
    return seqs_of(db, "task_started")[1] + 5


@pytest.fixture
def tool_used(db: Path) -> int:
    """The first time a tool answered."""
    return seqs_of(db, "tool_usage_finished")[0]


def text_of(result: Result) -> str:
    """Return all a person sees."""
    return result.out + result.err


# -- runs and log ---------------------------------------------------------------------------------


def test_runs_lists_each_run_with_its_status(cli: Cli) -> None:
    """The first thing a person asks a log."""
    result = cli("runs")

    assert result.code == 0
    events = str(len(seqs_of(cli.db)))
    assert result.out.splitlines()[1].split()[:5] == [RUN, "completed", "flow", "TeaMarket", events]


def test_runs_of_an_empty_log_says_so(cli: Cli, tmp_path: Path) -> None:
    """No output at all would read like a failure."""
    cli.db = tmp_path / "empty.db"
    eventlog.open(cli.db).close()

    result = cli("runs")

    assert (result.code, result.out) == (0, "")
    assert "no runs yet" in result.err


def test_runs_as_json_is_a_list_of_objects(cli: Cli) -> None:
    """Programs read it."""
    [run] = json.loads(cli("runs", "--json").out)

    assert run["run"] == RUN
    assert run["status"] == "completed"
    assert run["started_at"] < run["updated_at"]


def test_log_writes_one_line_per_event_in_order(cli: Cli) -> None:
    """A line break in a subject must not make two lines of one event."""
    lines = cli("log", RUN).out.splitlines()

    assert [int(line.split()[0]) for line in lines] == seqs_of(cli.db)


def test_log_as_json_has_whole_events(cli: Cli, db: Path) -> None:
    """What a program reads is what the library reads."""
    lines = [json.loads(line) for line in cli("log", RUN, "--json").out.splitlines()]
    with eventlog.open(db, readonly=True) as log:
        expected = [json.loads(msgspec.json.encode(event)) for event in log.events(RUN)]

    assert lines == expected


@pytest.mark.parametrize(
    ("options", "types", "part"),
    [
        (["--limit", "3"], [], slice(3)),
        (["--tail", "2"], [], slice(-2, None)),
        (["--tail", "5", "--limit", "2"], [], slice(-5, -3)),
        (["--after", "20", "--limit", "2"], [], slice(20, 22)),
        (["--type", "task_started"], ["task_started"], slice(None)),
        (["--type", "task_*", "--tail", "1"], ["task_*"], slice(-1, None)),
        (["--type", "task_started", "--type", "flow_created"], ["task_started", "flow_created"], slice(None)),
        (["--tail", "0"], [], slice(0)),
        (["--type", "nothing_like_that"], ["nothing_like_that"], slice(None)),
    ],
)
def test_log_chooses_events(cli: Cli, options: list[str], types: list[str], part: slice) -> None:
    """Each option narrows the list; none changes the order."""
    result = cli("log", RUN, "--json", *options)

    assert [json.loads(line)["seq"] for line in result.out.splitlines()] == seqs_of(cli.db, *types)[part]


def test_log_with_paths_shows_where_events_stand(cli: Cli) -> None:
    """The path is what tells two calls of one agent apart."""
    line = cli("log", RUN, "--paths", "--type", "tool_usage_finished", "--limit", "1").out

    assert "/flow:TeaMarket#0/method[write_report]#0/crew:" in line
    assert "price_of · Buyer" in line


# -- show -----------------------------------------------------------------------------------------


def test_show_finds_an_event_by_seq_and_by_the_beginning_of_its_id(cli: Cli, tool_used: int) -> None:
    """Both are printed by the other commands."""
    by_seq = json.loads(cli("show", tool_used, "--json").out)
    by_id = json.loads(cli("show", by_seq["event_id"][:13], "--json").out)

    assert by_seq == by_id
    assert by_seq["payload"]["tool_name"] == "price_of"


def test_show_prints_all_messages_of_a_conversation(cli: Cli) -> None:
    """The log keeps a conversation in links; a person wants to read it."""
    last = json.loads(cli("show", seqs_of(cli.db, "llm_call_started")[-1], "--json").out)
    result = cli("show", last["seq"])

    assert result.code == 0
    assert result.out.count("- [") == len(last["payload"]["messages"]) > 1
    assert "A former editor." in result.out


# -- replay ---------------------------------------------------------------------------------------


def test_replay_shows_the_state_at_an_event(cli: Cli, middle: int) -> None:
    """The main promise, for people."""
    out = cli("replay", "--to", middle).out

    assert "running" in out.splitlines()[1]
    assert "1  completed  Buyer   prices   Sencha costs 18.20" in out
    assert "2  running    Buyer   compare" in out
    assert "3  pending    Writer  report" in out


def test_replay_as_json_is_the_state_of_the_library(cli: Cli, db: Path) -> None:
    """At every cursor."""
    for seq in seqs_of(db)[::7]:
        shown = json.loads(cli("replay", RUN, "--to", seq, "--json").out)
        with eventlog.open(db, readonly=True) as log:
            expected = json.loads(msgspec.json.encode(log.state(RUN, to=seq)))

        assert shown == expected


def test_replay_takes_a_time_and_an_event_id(cli: Cli, middle: int) -> None:
    """What the other commands print can be pasted."""
    event = json.loads(cli("show", middle, "--json").out)
    time = cli("log", "--after", middle - 1, "--limit", "1").out.split()[1]

    assert json.loads(cli("replay", "--to", event["event_id"], "--json").out)["cursor"] == middle
    assert json.loads(cli("replay", "--to", time, "--json").out)["cursor"] == middle
    assert json.loads(cli("replay", "--to", "latest", "--json").out)["cursor"] == seqs_of(cli.db)[-1]


def test_replay_of_a_bare_seq_takes_the_events_own_run(cli: Cli, db: Path) -> None:
    """A seq names one event of one run, whichever run is the latest."""
    with eventlog.open(db) as log:
        log.append("later.event", {}, run="later")

    assert json.loads(cli("replay", "--to", "20", "--json").out)["run"] == RUN
    assert json.loads(cli("replay", "--json").out)["run"] == "later"


def test_replay_full_shows_outputs_whole(cli: Cli) -> None:
    """The table cuts them."""
    assert "and stay with Sencha." not in cli("replay", RUN).out.split("METHODS")[0]
    assert "and stay with Sencha." in cli("replay", RUN, "--full").out.split("OUTPUT OF REPORT")[1]


# -- diff and stats ---------------------------------------------------------------------------------


def test_diff_of_equal_histories_is_zero(cli: Cli, tmp_path: Path) -> None:
    """A copy of a run differs in ids, seqs and name only."""
    assert cli("export", RUN, "-o", tmp_path / "x.jsonl").code == 0
    assert cli("import", tmp_path / "x.jsonl", "--as", "copy").code == 0

    result = cli("diff", RUN, "copy")

    assert result.code == 0
    assert "different" not in result.out


def test_diff_of_two_moments_is_three_and_names_the_first_event(cli: Cli) -> None:
    """A difference has an exit code of its own."""
    result = cli("diff", f"{RUN}@20", f"{RUN}/main@latest")
    document = json.loads(cli("diff", "20", seqs_of(cli.db)[-1], "--json").out)

    assert result.code == 3
    assert f"first different event, after {document['first_event']['alike']} alike".upper() in result.out
    assert document["first_event"]["alike"] > 10
    assert "tasks[0].status" in result.out
    assert document["equal"] is False
    assert document["first_event"]["right"]["seq"] == 21


@pytest.mark.parametrize(
    ("by", "name", "tokens"), [("model", "scripted-tea", 90), ("agent", "Buyer", 75), ("task", "prices", 45)]
)
def test_stats_adds_up_tokens(cli: Cli, by: str, name: str, tokens: int) -> None:
    """Each call of the scripted LLM costs 15."""
    document = json.loads(cli("stats", RUN, "--by", by, "--json").out)

    assert {row["name"]: row["tokens"] for row in document["groups"]}[name] == tokens
    assert document["total"]["llm_calls"] == 6
    assert document["storage"]["file_bytes"] > 0
    assert name in cli("stats", RUN, "--by", by).out


# -- what holds for all ---------------------------------------------------------------------------


@pytest.mark.parametrize("args", READING, ids=" ".join)
def test_a_reading_command_changes_no_byte_of_the_log(cli: Cli, args: tuple[str, ...]) -> None:
    """Neither of a log at rest, nor of one that somebody writes to."""
    before = hashlib.sha256(cli.db.read_bytes()).hexdigest()
    at_rest = cli(*args).code
    after = hashlib.sha256(cli.db.read_bytes()).hexdigest()
    with eventlog.open(cli.db) as log:
        log.append("writer.busy", {}, run="busy")
        before_live = hashlib.sha256(cli.db.read_bytes()).hexdigest()
        live = cli(*args).code
        after_live = hashlib.sha256(cli.db.read_bytes()).hexdigest()

    assert (at_rest, live) in {(0, 0), (3, 3)}
    assert before == after
    assert before_live == after_live


@pytest.mark.parametrize("args", READING, ids=" ".join)
def test_a_reading_command_loads_nothing_slow(db: Path, args: tuple[str, ...]) -> None:
    """``eventlog runs`` is typed often; CrewAI alone takes seconds."""
    program = (
        "import sys; from eventlog.cli.main import run; run(sys.argv[1:]);"
        "slow = ['crewai', 'sqlite_utils', 'structlog', 'rich', 'pydantic'];"
        "print([name for name in slow if name in sys.modules], file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, *args, "--db", str(db)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, encoding="utf-8")

    assert done.stderr.splitlines()[-1] == "[]"


MISSING = [
    ("runs",), ("log",), ("show", "1"), ("replay",), ("diff", "1", "2"), ("stats",),
    ("export", RUN, "-o", "x.jsonl"),
]  # fmt: skip


@pytest.mark.parametrize("args", MISSING, ids=" ".join)
@pytest.mark.parametrize("kind", ["missing", "foreign", "text"])
def test_a_file_that_is_no_log_is_told_in_one_line(
    cli: Cli, tmp_path: Path, args: tuple[str, ...], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing, another program's database, or no database at all: and it stays as it is."""
    monkeypatch.chdir(tmp_path)
    cli.db = make_other_file(tmp_path / "other.db", kind)
    before = cli.db.read_bytes() if cli.db.exists() else None

    result = cli(*args)

    assert result.code == 1
    assert_told(result, "other.db")
    assert (cli.db.read_bytes() if cli.db.exists() else None) == before


def make_other_file(path: Path, kind: str) -> Path:
    """Return a file that is no log."""
    import sqlite3

    if kind == "text":
        path.write_text("this is a shopping list, not a database\n" * 200, "utf-8")
    if kind == "foreign":
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE other (x)")
        db.close()
    return path


def assert_told(result: Result, fragment: str) -> None:
    """An error is one line with the fragment, perhaps a hint, and nothing else."""
    lines = result.err.splitlines()
    assert result.out == ""
    assert lines[0].startswith("Error: ")
    assert fragment in lines[0]
    assert all(line.startswith("Hint: ") for line in lines[1:])
    assert len(lines) <= 2


WRONG: list[tuple[tuple[str, ...], int, str]] = [
    (("show", "9999"), 1, "9999"),
    (("show", "abc"), 1, "abc"),
    (("show", "abcdef"), 1, "2 events begin with 'abcdef'"),
    (("replay", "nobody"), 1, "no run 'nobody'"),
    (("replay", RUN, "--branch", "b"), 1, "no branch 'tea/b'"),
    (("replay", RUN, "--to", "zzzzzz"), 1, "zzzzzz"),
    (("replay", "--to", "9999"), 1, "9999"),
    (("replay", "--listeners", "x"), 2, "--listeners needs --play"),
    (("replay", "--play", "-1"), 2, "--play"),
    (("log", "nobody"), 1, "no run 'nobody'"),
    (("log", "--branch", "b"), 2, "--branch needs RUN"),
    (("log", "--tail", "x"), 2, "--tail"),
    (("diff", RUN, "nobody"), 1, "no run or event 'nobody'"),
    (("diff", RUN), 2, "Missing argument 'B'"),
    (("diff", f"{RUN}@9999", RUN), 1, "9999"),
    (("stats", "nobody"), 1, "no run 'nobody'"),
    (("stats", "--by", "moon"), 2, "--by"),
    (("export", "nobody", "-o", "-"), 1, "no run 'nobody'"),
    (("export", "-o", "-"), 2, "name a RUN, or say --all"),
    (("export", "--all", "--to", "3", "-o", "-"), 2, "need RUN"),
    (("import", "no-such-file.jsonl"), 1, "no-such-file.jsonl"),
    (("nonsense",), 2, "nonsense"),
    (("runs", "--nonsense"), 2, "--nonsense"),
]


@pytest.mark.parametrize(("args", "code", "fragment"), WRONG, ids=[" ".join(case[0]) for case in WRONG])
def test_a_wrong_request_is_told_in_one_line(cli: Cli, args: tuple[str, ...], code: int, fragment: str) -> None:
    """One line, a hint, the right exit code, never a traceback."""
    with eventlog.open(cli.db) as log:
        for name in ("abcdef-1", "abcdef-2"):
            log.append("own.event", {}, run="own", event_id=name)

    result = cli(*args)

    assert result.code == code
    assert_told(result, fragment)


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_every_help_has_an_example(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """People copy examples; they do not read grammars."""
    from eventlog.cli.main import run

    code = run([*([name] if name else []), "--help"])

    assert code == 0
    assert "Example" in capsys.readouterr().out


def test_recorded_text_cannot_steer_the_terminal(cli: Cli) -> None:
    """A model may write anything, also escape sequences that retitle the window or hide what follows."""
    evil = "\x1b]0;owned\x07\x1b[2Jhidden\x9b31m\u202eright to left\r\x00"
    with eventlog.open(cli.db) as log:
        seq = log.append(
            "evil.event", {"error": evil, evil: [evil], "messages": [{"role": evil, "content": evil}]}, run=evil
        )
    shown = [cli("runs"), cli("log"), cli("log", "--json"), cli("show", seq), cli("show", seq, "--json"),
             cli("replay", evil), cli("replay", evil, "--json"), cli("diff", seq, "1"), cli("show", evil)]  # fmt: skip
    found = {char for result in shown for char in text_of(result) if char in "\x1b\x07\x9b\u202e\r\x00"}

    assert found == set()
    assert all("hidden" in text_of(result) for result in shown)


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """A bug report begins with it."""
    from eventlog.cli.main import run

    code: Any = run(["--version"])

    assert (code, capsys.readouterr().out) == (0, f"eventlog {eventlog.__version__}\n")


@pytest.mark.parametrize("command", [["runs"], ["stats"], ["log"], ["replay", "r"], ["verify"]])
def test_a_folder_is_called_one(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SQLite speaks of an I/O error of the disk."""
    assert run([*command, "--db", str(tmp_path)]) == 1

    assert f"Error: {tmp_path}: Is a directory" in capsys.readouterr().err
