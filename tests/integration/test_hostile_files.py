"""A file that somebody made to have code run, or rows written elsewhere: nothing in it is executed."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import eventlog
from eventlog.errors import LogOpenError, NotAnEventLogError
from eventlog.provider import EventLogProvider
from tests.cli_world import ROOT, Cli, environment
from tests.integration.hostile import make_log
from tests.integration.hostile_watch import CANARY
from tests.integration.native import crewai
from tests.verifying import query

# -- code --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """What a process did that read, resumed and executed hostile logs under an audit hook."""
    folder = tmp_path_factory.mktemp("watched")
    command = [sys.executable, "-m", "tests.integration.hostile_watch", str(folder)]
    env = environment(CREWAI_STORAGE_DIR=str(folder / "crewai"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=env, cwd=folder)

    assert done.returncode == 0, done.stderr[-2000:]
    return folder, json.loads(done.stdout)


def test_nothing_named_in_a_log_is_imported_or_called(watched: tuple[Path, dict[str, Any]]) -> None:
    """No module, class, validator or constructor, by no command, no resumption and no re-execution.

    Seen to fail: ``revive_error`` called ``cls.__new__``; and with ``import_module`` for a class nobody declared.
    """
    folder, report = watched

    assert report["alarms"] == []
    assert report["sprung"] == []
    assert not (folder / "imported").exists()
    assert list(folder.glob(f"**/{CANARY}-was-here")) == []


def test_the_hostile_values_were_really_met(watched: tuple[Path, dict[str, Any]]) -> None:
    """Otherwise nothing would have been proven: each was read, shown, exported, imported, and asked to be revived."""
    _, report = watched
    done = {name.partition(":")[0]: name.partition(": ")[2] for name in report["done"]}

    assert {"$model", "$dataclass", "$enum"} <= report["revived"].keys()
    assert done.keys() >= {"resume", "reexecute", "replay", "export", "import", "replay imported", "fork", "repair"}
    assert not [name for name in report["done"] if name.endswith((": 1", ": 2"))]


def test_the_canary_works(watched: tuple[Path, dict[str, Any]]) -> None:
    """Whoever imported it would be seen."""
    folder, _ = watched
    code = f"import {CANARY}"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, env=environment())

    assert (folder / "imported").exists()
    (folder / "imported").unlink()


def test_crewais_own_commands_import_nothing_from_a_log_before_they_restore(tmp_path: Path) -> None:
    """``crewai checkpoint list`` and ``info`` show a checkpoint whose tool is the canary, and do not import it.

    ``resume`` would: restoring is CrewAI's, and SECURITY.md says so.
    """
    (tmp_path / f"{CANARY}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\nclass Evil: pass\n", "utf-8")
    tool = {"tool_type": f"{CANARY}.Evil", "cache_function": f"{CANARY}.Evil", "name": "t", "description": "d"}
    agent = {"role": "r", "goal": "g", "backstory": "b", "tools": [tool]}
    entity = {"entity_type": "crew", "name": "evil", "agents": [agent], "tasks": []}
    path = make_log(tmp_path / "x.db")
    document = json.dumps({"entities": [entity], "trigger": "task_completed", "event_record": {"nodes": {}}})
    name = EventLogProvider().checkpoint(document, str(path)).rpartition("#")[2]
    listed = crewai("list", path, folder=tmp_path, PYTHONPATH=f"{ROOT}:{tmp_path}")
    shown = crewai("info", f"{path}#{name}", folder=tmp_path, PYTHONPATH=f"{ROOT}:{tmp_path}")

    assert "Found 1 checkpoint(s)" in listed
    assert "crew" in shown
    assert CANARY in EventLogProvider().from_checkpoint(f"{path}#{name}")
    assert not (tmp_path / "imported").exists()


# -- the schema --------------------------------------------------------------------------------------

SPY = "AFTER INSERT ON events BEGIN INSERT OR REPLACE INTO meta VALUES ('stolen', NEW.payload); END"
QUOTED = SPY.replace("'", "''")
FOREIGN: dict[str, tuple[str, ...]] = {
    "a trigger that copies payloads": (f"CREATE TRIGGER spy {SPY}",),
    "a trigger that drops events": (
        "CREATE TRIGGER events_never_appear BEFORE INSERT ON events BEGIN SELECT raise(IGNORE); END",
    ),
    "a trigger that loads a library": (
        "CREATE TRIGGER t AFTER INSERT ON events BEGIN SELECT load_extension('/tmp/evil.so'); END",
    ),
    "a trigger that writes a file": (
        "CREATE TRIGGER t AFTER INSERT ON runs BEGIN SELECT writefile('/tmp/evil', 'x'); END",
    ),
    "a trigger that opens an editor": ("CREATE TRIGGER t AFTER INSERT ON branches BEGIN SELECT edit('x', 'sh'); END",),
    "a trigger under a name of SQLite": (
        "PRAGMA writable_schema = ON",
        f"INSERT INTO sqlite_master VALUES ('trigger', 'sqlite_t', 'events', 0, 'CREATE TRIGGER sqlite_t {QUOTED}')",
    ),
    "a trigger of ours that does nothing": (
        "DROP TRIGGER events_never_vanish",
        "CREATE TRIGGER events_never_vanish BEFORE DELETE ON events BEGIN SELECT 1; END",
    ),
    "a view more": ("CREATE VIEW more AS SELECT load_extension('/tmp/evil.so')",),
    "a view of ours with functions in it": (
        "DROP VIEW checkpoints",
        "CREATE VIEW checkpoints AS SELECT 1 AS id, writefile('/tmp/evil', 'x') AS data",
    ),
    "a view in the place of a table": ("ALTER TABLE names RENAME TO n", "CREATE VIEW names AS SELECT * FROM n"),
    "a virtual table": ("CREATE VIRTUAL TABLE more USING fts5(body)",),
    "a table like ours": ("CREATE TABLE event_s (seq INTEGER)",),
    "an index that refuses events": ("CREATE UNIQUE INDEX one ON events ((1))",),
    "a column more": ("ALTER TABLE meta ADD COLUMN evil TEXT DEFAULT 'x'",),
}  # fmt: skip
"""What is done to the schema of a log."""


@pytest.fixture(params=list(FOREIGN.values()), ids=list(FOREIGN))
def foreign(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A log with something in its schema that is not ours."""
    path = make_log(tmp_path / "x.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in request.param:
            db.execute(statement)
    return path


def test_a_schema_that_is_not_ours_is_never_written_to(foreign: Path) -> None:
    """Nor migrated, forked, compacted: the file stays as it is, byte for byte, and no statement of it has run.

    Seen to fail: names that begin with ``sqlite_`` were passed over, and ``sqlite_t`` copied every payload.
    """
    before = foreign.read_bytes()

    with pytest.raises(NotAnEventLogError, match="differs from what this library makes"):
        eventlog.open(foreign)
    assert foreign.read_bytes() == before
    assert query(foreign, "SELECT value FROM meta WHERE key = 'stolen'") == []


def test_reading_it_runs_nothing_of_it(foreign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is read, where all that is ours is there, or refused; the bytes stay the same, and no error is unexpected."""
    cli, before = Cli(foreign, capsys), foreign.read_bytes()
    lines = ("log --json", "replay", "runs", "stats", "verify", "doctor --no-probe")
    results = [cli(*line.split()) for line in lines]

    assert {result.code for result in results} <= {0, 1, 3}
    assert not [result.err for result in results if "should not happen" in result.err]
    assert results[4].code in (1, 3)
    assert foreign.read_bytes() == before
    assert not Path("/tmp/evil").exists()


def test_checkpoints_are_read_from_views_of_ours_only(tmp_path: Path) -> None:
    """CrewAI's reader is a plain connection, so our provider looks first."""
    path = make_log(tmp_path / "x.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DROP VIEW checkpoints")
        db.execute("CREATE VIEW checkpoints AS SELECT 'a' AS id, '{}' AS data")

    with pytest.raises(LogOpenError, match="differs from what this library makes"):
        EventLogProvider().from_checkpoint(f"{path}#a")


# -- SQL in values -----------------------------------------------------------------------------------

TEXTS = (
    "'; DROP TABLE events; --", '"; DELETE FROM events; --', "x' OR '1'='1", "%", "_", "a%_b", "*", "[a-z]*", "?", "?1",
    ":name", "a\\'b", "nul\x00inside", "x'||(SELECT value FROM meta)||'", "Robert'); ATTACH '/tmp/evil.db' AS e; --",
    "\u0000", "../../etc/hosts", "é' UNION SELECT 1 --",
)  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_sql_is_text_wherever_it_stands(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In names of runs, branches and types, in ids, roles, tasks and payloads: stored, found and shown as it is."""
    path = tmp_path / "x.db"
    event_type = f"a.{text}"
    branch = text.replace("/", "|") if text.strip() else f"b{text}"
    with eventlog.open(path) as log:
        log.append("a.note", {"n": 1}, run="other")
        log.append(event_type, {"text": text, text: 1}, run=text, event_id=f"id-of-{text}")
        log.fork(text, branch=branch)
        log.append(event_type, {"text": "on the branch"}, run=text, branch=branch)
    cli = Cli(path, capsys)
    rows = [json.loads(line) for line in cli("log", text, "--branch", branch, "--json").out.splitlines()]

    assert [(row["run"], row["branch"], row["type"]) for row in rows] == [
        (text, "main", event_type), (text, branch, event_type)
    ]  # fmt: skip
    assert (rows[0]["event_id"], rows[0]["payload"]) == (f"id-of-{text}", {"text": text, text: 1})
    assert json.loads(cli("replay", text, "--to", f"id-of-{text}", "--json").out)["run"] == text
    assert {run["run"] for run in json.loads(cli("runs", "--json").out)} == {text, "other"}
    assert query(path, "SELECT count(*) FROM events") == [(3,)]
    assert cli("verify").code == 0


def test_wildcards_of_sql_find_only_themselves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In ``--grep`` nothing is special, in ``--type`` only ``*``, in a prefix nothing."""
    path = tmp_path / "x.db"
    with eventlog.open(path) as log:
        for number, text in enumerate(("a%b", "aXb", "a_b", "a[b", "a?b", "a*b"), 1):
            log.append(f"t.{text}", {"text": text}, run="r", event_id=f"prefix-{text}-{number}")
    cli = Cli(path, capsys)

    def found(*words: str) -> list[int]:
        return [json.loads(line)["seq"] for line in cli("log", "r", "--json", *words).out.splitlines()]

    assert [found("--grep", text) for text in ("a%b", "a_b", "a?b", "a*b", "%", "_")] == [[1], [3], [5], [6], [1], [3]]
    assert [found("--type", f"t.{text}") for text in ("a%b", "a_b", "a[b", "a?b")] == [[1], [3], [4], [5]]
    assert found("--type", "t.a*b") == [1, 2, 3, 4, 5, 6]
    assert json.loads(cli("show", "prefix-a_", "--json").out)["seq"] == 3
    assert cli("show", "prefix-%").code == 1


@pytest.mark.parametrize("text", TEXTS)
def test_sql_in_an_import_file_is_text(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In every field that an import takes: the same comes out again."""
    line = {
        "seq": 1, "event_id": f"i-{text}", "type": f"t.{text}", "type_class": text, "at_ns": 1, "run": f"r-{text}",
        "task_id": f"k-{text}", "task_name": text, "agent_id": f"a-{text}", "agent_role": text,
        "parent_event_id": f"p-{text}", "path": "/" + text.replace("/", "|"), "payload": {text: text},
    }  # fmt: skip
    run = {"run": f"r-{text}", "attribution": text, "branches": [{"branch": "main"}]}
    header = {"format": "eventlog-jsonl", "version": 1, "runs": [run]}
    path = tmp_path / "x.jsonl"
    path.write_text(f"{json.dumps(header)}\n{json.dumps(line)}\n", "utf-8")
    cli = Cli(tmp_path / "x.db", capsys)
    assert cli("import", path).code == 0
    assert cli("export", f"r-{text}", "-o", tmp_path / "y.jsonl").code == 0
    again = json.loads((tmp_path / "y.jsonl").read_text("utf-8").splitlines()[1])

    assert {name: again.get(name) for name in line} == line
    assert json.loads(cli("replay", f"r-{text}", "--json").out)["event_count"] == 1
    assert cli("verify").code == 0


def test_a_secret_in_the_name_of_an_imported_run_stays_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events are in one run, under the name without the secret, however often the file is imported.

    Seen to fail: the run was made under its own name, and its events under the other.
    """
    secret = "env-canary-0123456789"
    monkeypatch.setenv("SOME_API_KEY", secret)
    run = {"run": f"r-{secret}", "attribution": "named", "branches": [{"branch": "main"}]}
    lines = [
        {
            "seq": n,
            "event_id": f"e{n}",
            "type": "a.note",
            "at_ns": n,
            "run": f"r-{secret}",
            "payload": {"password": "r-"},
        }
        for n in (1, 2)
    ]
    path = tmp_path / "x.jsonl"
    header = {"format": "eventlog-jsonl", "version": 1, "runs": [run]}
    path.write_text("".join(json.dumps(line) + "\n" for line in (header, *lines)), "utf-8")
    cli = Cli(tmp_path / "x.db", capsys)
    results = [json.loads(cli("import", path, "--json").out) for _ in range(2)]

    assert [[found["new"] for found in result] for result in results] == [[2], [0]]
    assert [run["events"] for run in json.loads(cli("runs", "--json").out)] == [2]
    assert not [file for file in tmp_path.glob("x.db*") if secret.encode() in file.read_bytes()]
