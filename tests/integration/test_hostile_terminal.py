"""What a model, or a stranger, wrote is shown on a terminal: it can neither act there nor pass for something else."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import eventlog
from eventlog.cli import lines, main, output, pages_rich
from tests.cli_world import Cli, Result, environment, finish
from tests.integration.hostile import tamper

PARTS = (
    "\x1b]0;title\x07",
    "\x1b[2J\x1b[8m",
    "\x9b31m",
    "\x9d0;title\x9c",
    "\rover",
    "\x08\x08",
    "\x7f",
    "\x0b\x0c\x0e\x1f",
    "\x85",
    "\u202efdp.exe",
    "\u2066\u2069\u200e\u061c",
    "\u200b\u2060\ufeff\xad",
    "\u2028\u2029",
    "\U000e0041\U000e007f",
    "[bold red]markup[/bold red][link=http://evil]x[/link]",
    "\nError: forged",
)
EVIL = "a" + "".join(PARTS) + "z"
NUL = f"{EVIL}\x00"
FORBIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Everything but tab and line break that a terminal acts on, or does not show."""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""What the command line itself writes to a terminal, and the only thing."""
BRANCH = EVIL.replace("/", "|")


def hostile_lines() -> list[dict[str, Any]]:
    """Return an export in which every text is hostile."""
    crew, path = {"kind": "crew", "name": NUL, "key": NUL, "inputs_hash": NUL}, f"/crew:{BRANCH}#0"
    task, who = f"{path}/task[{BRANCH}]#0", {"task_id": NUL, "task_name": NUL, "agent_id": NUL, "agent_role": NUL}
    error = {"$error": f"x:{NUL}", "msg": NUL, "args": [NUL]}
    steps: list[tuple[str, str, dict[str, Any]]] = [
        ("crew_kickoff_started", path, {"crew_name": NUL, "inputs": {NUL: NUL}}),
        ("task_started", task, {"task": {"$ref": "task", "name": NUL, "description": NUL}}),
        ("llm_call_started", f"{task}/llm[{BRANCH}]#0", {"model": NUL, "messages": [{"role": NUL, "content": NUL}]}),
        ("llm_call_completed", task, {"model": NUL, "response": NUL, "usage": {"prompt_tokens": 3, NUL: 1}}),
        ("tool_usage_started", task, {"tool_name": NUL, "tool_args": {NUL: [NUL]}}),
        ("tool_usage_error", task, {"tool_name": NUL, "error": NUL}),
        (
            "method_execution_failed",
            f"/flow:{BRANCH}#0/method[{BRANCH}]#0",
            {"flow_name": NUL, "method_name": NUL, "error": error},
        ),
        ("task_failed", task, {"error": NUL}),
        (f"own.{NUL}", "", {NUL: {NUL: NUL}}),
        ("crew_kickoff_failed", path, {"error": error}),
    ]
    branches = [{"branch": "main"}, {"branch": BRANCH, "parent": "main", "fork_event_id": f"e4{NUL}"}]
    header = {
        "format": "eventlog-jsonl",
        "version": 1,
        "runs": [{"run": NUL, "attribution": NUL, "branches": branches}],
    }
    events = [
        {
            "seq": n,
            "event_id": f"e{n}{NUL}",
            "type": kind,
            "at_ns": n * 10**9,
            "run": NUL,
            "path": where,
            "type_class": NUL,
            "parent_event_id": NUL,
            "triggered_by_event_id": NUL,
            "payload": payload,
            **who,
            **({"execution": crew} if kind == "crew_kickoff_started" else {}),
        }
        for n, (kind, where, payload) in enumerate(steps, 1)
    ]
    return [header, *events, {**events[8], "seq": 11, "event_id": f"e11{NUL}", "branch": BRANCH}]


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log, under a hostile name, in which every text is hostile."""
    folder = tmp_path_factory.mktemp("evil")
    file, path = folder / "x.jsonl", folder / f"{BRANCH}.db"
    file.write_text("".join(json.dumps(line) + "\n" for line in hostile_lines()), "utf-8")
    assert main.run(["import", str(file), "--db", str(path)]) == 0
    with eventlog.open(path) as log:
        log.append("a.note", {"loose": NUL})
    return path


READING: tuple[tuple[str, ...], ...] = (
    ("log",),
    ("log", "--paths"),
    ("log", NUL, "--branch", BRANCH),
    ("log", "--grep", "title"),
    ("log", "--type", EVIL),
    ("runs",),
    ("branches",),
    ("branches", NUL),
    ("stats",),
    ("stats", NUL, "--by", "task"),
    ("stats", "--by", "agent"),
    ("stats", "--by", "model"),
    ("doctor", "--no-probe"),
    ("verify",),
    ("verify", "--deep"),
    ("replay", NUL),
    ("replay", NUL, "--full"),
    ("replay", NUL, "--branch", BRANCH, "--full"),
    ("replay", NUL, "--to", "5"),
    ("diff", NUL, f"{NUL}@6"),
    ("diff", f"{NUL}@3", f"{NUL}/{BRANCH}"),
    ("resume", NUL),
    ("replay", NUL, "--play", "0"),
    *(("show", str(seq)) for seq in range(1, 13)),
    ("export", "--all", "-o", "-"),
    ("compact", "--max-checkpoints", "0", "--dry-run"),
    ("export", NUL, "--format", "crewai-checkpoint", "-o", "-"),
)
FAILING: tuple[tuple[str, ...], ...] = (
    ("log", f"no{EVIL}"),
    ("log", NUL, "--branch", f"no{EVIL}"),
    ("show", f"no{EVIL}"),
    ("replay", NUL, "--to", EVIL),
    ("diff", EVIL + "1", EVIL),
    (EVIL,),
    ("log", f"--{EVIL}"),
    ("log", "--after", EVIL),
    ("fork", NUL, "--branch", f"a/{EVIL}"),
    ("import", EVIL),
    ("backup", f"/no{EVIL}/x"),
    ("repair", "--into", f"/no{EVIL}/x"),
    ("fork", NUL, "--output", f"{EVIL}=x"),
    ("replay", NUL, "--play", "0", "--listeners", EVIL),
    ("export", f"no{EVIL}", "-o", "x"),
    ("export", NUL, "-o", f"/no{EVIL}/x"),
    ("verify", "--head", EVIL),
    ("forget", "--event", EVIL),
    ("log", "\udc9b\udcff"),
    ("show", "\udc9b\udcff-long"),
    ("compact", "--import", EVIL.replace(".", "")),
    ("record", EVIL),
    ("record", "-m", EVIL.replace(".", "")),
)


def shown(words: tuple[str, ...]) -> str:
    """Return a command line as the name of a test."""
    return " ".join(word for word in words if word.isprintable())


def assert_harmless(result: Result, words: tuple[str, ...]) -> None:
    """Nothing that acts on a terminal was written, and nothing went wrong in a way that nobody thought of."""
    for text in (result.out, result.err):
        assert FORBIDDEN.findall(text) == [], (words, text)
        assert "\x1b[8m" not in text
    assert "should not happen" not in result.err, words
    assert not re.search(r"^Error: forged", result.out + result.err, re.MULTILINE), words


@pytest.mark.parametrize("words", READING, ids=shown)
def test_what_is_read_is_harmless(words: tuple[str, ...], evil: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As text for people; seen to fail: paths in ``log``, C1 and bidi in ``export -o -``, invisible characters."""
    result = Cli(evil, capsys)(*words)

    assert result.code in (0, 1, 3)
    assert result.out + result.err
    assert_harmless(result, words)


@pytest.mark.parametrize("words", [words for words in READING if words[0] != "export"], ids=shown)
def test_json_is_escaped_and_the_same(words: tuple[str, ...], evil: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No raw control character, and programs get every character back."""
    result = Cli(evil, capsys)(*words, "--json")
    documents = (
        [json.loads(line) for line in result.out.splitlines()] if words[0] == "log" else [json.loads(result.out)]
    )

    assert_harmless(result, words)
    if words[0] in ("runs", "log", "show") and documents:
        assert NUL in json.dumps(documents[0], ensure_ascii=False) or NUL in _texts(documents)


def _texts(tree: Any) -> set[str]:
    """Return every text in a document."""
    if isinstance(tree, dict):
        return {*tree, *(text for value in tree.values() for text in _texts(value))}
    if isinstance(tree, list):
        return {text for value in tree for text in _texts(value)}
    return {tree} if isinstance(tree, str) else set()


@pytest.mark.parametrize("words", READING, ids=shown)
def test_a_terminal_gets_our_colours_only(
    words: tuple[str, ...], evil: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages by rich, whose own markup in a text is text."""
    for module in (output, lines):
        monkeypatch.setattr(module, "is_terminal", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    result = Cli(evil, capsys)(*words)

    assert "\x1b[8m" not in result.out
    assert "\x1b]8" not in result.out
    assert_harmless(Result(result.code, COLOUR.sub("", result.out), COLOUR.sub("", result.err)), words)


def test_markup_of_rich_is_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In titles, names, values and cells: nothing is coloured, hidden or linked by who wrote it.

    Seen to fail: a title was read as markup.
    """
    monkeypatch.setenv("FORCE_COLOR", "1")
    markup = "[red]x[/red][link=a]y[/no]"
    facts, table = output.Facts([(markup, markup)]), output.Table("", ("a",), [(markup,)])

    pages_rich.print_blocks([output.Prose(markup, markup), facts, table])

    assert capsys.readouterr().out.count(markup) == 5


@pytest.mark.parametrize("words", FAILING, ids=shown)
def test_errors_are_harmless(
    words: tuple[str, ...],
    evil: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They repeat what was typed, or what a file is called."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    result = Cli(evil, capsys)(*words)

    assert result.code in (0, 1, 2)
    assert_harmless(result, words)


def test_writing_commands_are_harmless(evil: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Fork, export, import, backup, repair, compact, forget: names of files and runs in what they say."""
    path = tmp_path / f"{BRANCH}.db"
    assert main.run(["backup", str(path), "--db", str(evil)]) == 0
    cli, other = Cli(path, capsys), Cli(tmp_path / f"{BRANCH}2.db", capsys)
    file = tmp_path / f"{BRANCH}.jsonl"
    results = [
        cli("export", NUL, "-o", file),
        cli("export", NUL, "-o", file),
        other("import", file),
        cli("fork", NUL, "--to", "4"),
        cli("fork", NUL, "--branch", f"2{BRANCH}"),
        cli("compact", "--max-checkpoints", "0", "--archive", f"{file}.db"),
        cli("backup", f"{file}.b"),
        cli("repair", "--into", f"{file}.r"),
        cli("forget", "--event", "3"),
        cli("verify"),
        cli("doctor", "--no-probe"),
    ]

    for number, result in enumerate(results):
        assert_harmless(result, (str(number),))


def test_damage_is_told_harmlessly(evil: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Findings quote what they found."""
    path = tmp_path / "x.db"
    assert main.run(["backup", str(path), "--db", str(evil)]) == 0
    tamper(path, ("UPDATE events SET payload = ? WHERE seq = 2", (EVIL,)), ("UPDATE branches SET owner = ?", (EVIL,)))
    tamper(
        path, ("UPDATE contents SET kind = ?", (EVIL,)), ("UPDATE executions SET status = ?, kind = ?", (EVIL, EVIL))
    )
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f'CREATE TABLE "{EVIL}" (a)')
    cli = Cli(path, capsys)

    for words in (*READING, ("repair", "--into", str(tmp_path / "r.db")), ("backup", str(tmp_path / "b.db"))):
        for more in ((), ("--json",)):
            assert_harmless(cli(*words, *more), words)


@pytest.mark.parametrize("as_json", [False, True])
def test_record_says_nothing_harmful(as_json: bool, tmp_path: Path) -> None:
    """The name of the run and of the file are given by whoever starts it, perhaps a script."""
    script = tmp_path / f"{BRANCH}.py"
    script.write_text("import eventlog\n", "utf-8")
    words = ["record", "--db", tmp_path / f"{BRANCH}.db", "--run", EVIL, *(["--json"] if as_json else []), "-v", script]
    result = finish(*words, env=environment(CREWAI_STORAGE_DIR=str(tmp_path)))

    assert result.code == 0, result.err
    assert_harmless(result, ("record",))
    assert result.err
    assert os.fspath(script) not in result.err
