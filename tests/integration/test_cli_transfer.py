"""Out of one log and into another."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

import eventlog
from eventlog.replay.diff import first_difference
from tests.cli_world import RUN, Cli, environment, finish

RUNS = [{"run": "r", "attribution": "minted", "branches": [{"branch": "main"}]}]
HEADER = {"format": "eventlog-jsonl", "version": 1, "runs": RUNS}
FORKED = {
    **HEADER,
    "runs": [
        {
            "run": "r",
            "attribution": "named",
            "branches": [{"branch": "main"}, {"branch": "b", "parent": "main", "fork_event_id": "e2"}],
        }
    ],
}


def event(number: int, **more: Any) -> dict[str, Any]:
    """Return one event of run ``r``."""
    line = {"seq": number, "event_id": f"e{number}", "type": "some.event", "at_ns": number, "run": "r", "payload": {}}
    return {**line, **more}


def write(path: Path, *lines: Any) -> Path:
    """Write lines, JSON unless they are text already."""
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), "utf-8")
    return path


@pytest.fixture
def other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line on a log that is not there yet."""
    return Cli(tmp_path / "other.db", capsys)


@pytest.fixture
def exported(cli: Cli, tmp_path: Path) -> Path:
    """The whole recorded log as a file."""
    path = tmp_path / "all.jsonl"
    assert cli("export", "--all", "-o", path).code == 0
    return path


def test_an_imported_run_equals_the_original_at_every_event(cli: Cli, other: Cli, exported: Path) -> None:
    """Events, states, runs and the index of executions; large values and tags included."""
    assert other("import", exported).code == 0

    with eventlog.open(cli.db, readonly=True) as a, eventlog.open(other.db, readonly=True) as b:
        assert a.runs() == b.runs()
        assert a.executions(RUN) == b.executions(RUN)
        assert first_difference(a.reader.stored(None), b.reader.stored(None)) is None
        assert list(a.reader.stored(None)) == list(b.reader.stored(None))
        for found in a.events(RUN):
            assert a.state(RUN, to=found.seq) == b.state(RUN, to=found.seq)


def test_an_import_takes_no_more_room_than_a_recording(cli: Cli, other: Cli, exported: Path) -> None:
    """Conversations and long texts are found again, though the file repeats them."""
    assert other("import", exported).code == 0

    def contents(db: Path) -> set[Any]:
        with eventlog.open(db, readonly=True) as log:
            return {tuple(row) for row in log.reader.query("SELECT hash, kind FROM contents")}

    assert {name for name, _ in contents(cli.db)} == {name for name, _ in contents(other.db)}
    assert exported.stat().st_size > 0


def test_an_imported_run_has_the_checkpoints_of_the_original(cli: Cli, other: Cli, exported: Path) -> None:
    """Its states are as quick to read, and it can be resumed and compacted like one that was captured."""
    assert other("import", exported).code == 0

    def checkpoints(db: Path) -> list[Any]:
        with eventlog.open(db, readonly=True) as log:
            return log.reader.query("SELECT seq, trigger FROM snapshots WHERE kind = 'checkpoint' ORDER BY seq")

    assert checkpoints(other.db) == checkpoints(cli.db) != []


def test_importing_twice_is_importing_once(other: Cli, exported: Path) -> None:
    """Nothing is appended, nothing changes."""
    first = json.loads(other("import", exported, "--json").out)
    runs = other("runs", "--json").out
    second = json.loads(other("import", exported, "--json").out)

    assert [result["new"] for result in first] == [result["events"] for result in first]
    assert [result["new"] for result in second] == [0] * len(first)
    assert other("runs", "--json").out == runs


def test_an_older_import_is_completed_by_a_newer_export(cli: Cli, other: Cli, exported: Path, tmp_path: Path) -> None:
    """``--to`` exports a beginning; the rest fits on."""
    part = tmp_path / "part.jsonl"
    assert cli("export", RUN, "--to", "30", "-o", part).code == 0
    assert json.loads(other("import", part, "--json").out)[0]["new"] == 30

    result = json.loads(other("import", exported, "--json").out)[0]

    assert result["new"] == result["events"] - 30
    assert json.loads(other("replay", RUN, "--json").out)["status"] == "completed"


def test_events_of_no_run_travel_too(cli: Cli, other: Cli, tmp_path: Path) -> None:
    """With ``--all``."""
    with eventlog.open(cli.db) as log:
        log.append("loose.event", {"n": 1})
    assert cli("export", "--all", "-o", tmp_path / "x.jsonl").code == 0
    for _ in range(2):
        assert other("import", tmp_path / "x.jsonl").code == 0

    loose = [json.loads(line) for line in other("log", "--type", "loose.event", "--json").out.splitlines()]

    assert [(found["run"], found["payload"]) for found in loose] == [(None, {"n": 1})]


def test_an_imported_fork_is_as_unfinished_as_the_original(cli: Cli, other: Cli, tmp_path: Path) -> None:
    """What the edits of a fork made unfinished is to be gone on with in the other log, too; a bare fork is there."""
    with eventlog.open(cli.db) as log:
        log.fork(RUN, branch="dear", outputs={"#1": "Quite another beginning"})
        log.fork(RUN, branch="same")
    assert cli("export", RUN, "-o", tmp_path / "x.jsonl").code == 0
    for _ in range(2):
        assert other("import", tmp_path / "x.jsonl").code == 0

    with eventlog.open(cli.db, readonly=True) as a, eventlog.open(other.db, readonly=True) as b:
        assert [branch.status for branch in a.branches(RUN)] == ["completed", "interrupted", "completed"]
        assert b.branches(RUN) == a.branches(RUN)
        assert b.runs() == a.runs()
        for branch in ("main", "dear", "same"):
            assert b.executions(RUN, branch=branch) == a.executions(RUN, branch=branch)


def test_branches_keep_their_forks(other: Cli, tmp_path: Path) -> None:
    """A fork shows its parent's events up to the fork, then its own."""
    lines = [event(n, payload={"n": n}) for n in (1, 2, 3)] + [event(4, branch="b"), event(5), event(6, branch="b")]
    assert other("import", write(tmp_path / "x.jsonl", FORKED, *lines)).code == 0
    assert other("export", "r", "-o", tmp_path / "y.jsonl").code == 0
    assert other("export", "r", "--branch", "b", "-o", tmp_path / "b.jsonl").code == 0

    def seen(name: str) -> list[str]:
        with eventlog.open(other.db, readonly=True) as log:
            return [found.event_id for found in log.events("r", name)]

    assert seen("main") == ["e1", "e2", "e3", "e5"]
    assert seen("b") == ["e1", "e2", "e4", "e6"]
    assert [json.loads(x)["event_id"] for x in (tmp_path / "b.jsonl").read_text("utf-8").splitlines()[1:]] == seen("b")
    again = Cli(tmp_path / "again.db", other._capsys)
    assert again("import", tmp_path / "y.jsonl").code == 0
    assert again("export", "r", "-o", tmp_path / "z.jsonl").code == 0
    assert (tmp_path / "y.jsonl").read_text("utf-8") == (tmp_path / "z.jsonl").read_text("utf-8")


def test_a_run_without_events_and_how_a_run_got_its_name_are_kept(other: Cli, tmp_path: Path) -> None:
    """Nobody has an imported run open: it is not running."""
    crew = {"kind": "crew", "name": "c", "key": "abc", "inputs_hash": "h"}
    started = event(1, type="crew_kickoff_started", path="/crew:abc#0", execution=crew)
    empty = {"run": "empty", "attribution": "named", "branches": [{"branch": "main"}]}
    header = {**HEADER, "runs": [*RUNS, empty]}
    assert other("import", write(tmp_path / "x.jsonl", header, started)).code == 0

    runs = {run["run"]: run for run in json.loads(other("runs", "--json").out)}

    assert (runs["r"]["status"], runs["r"]["attribution"], runs["r"]["kind"]) == ("interrupted", "minted", "crew")
    assert runs["empty"]["status"] == "completed"


def test_imported_secrets_do_not_reach_the_disk(other: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file made elsewhere, or by hand, passes the same redaction as capture."""
    canary, env_canary = "sk-canary0123456789abcdef", "env-canary-0123456789"
    monkeypatch.setenv("SOME_API_KEY", env_canary)
    payload = {
        "api_key": "under-a-secret-key-1",
        "text": f"the key is {canary}",
        "long": f"{'x' * 400} {env_canary}",
        "output": {"$model": "a:B", "fields": {"raw": f"again {canary}", "password": "hidden-password-2"}},
        "messages": [{"role": "user", "content": f"use {env_canary}"}],
    }
    assert other("import", write(tmp_path / "x.jsonl", HEADER, event(1, payload=payload, agent_id=canary))).code == 0
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("other.db*"))
    shown = json.loads(other("show", "1", "--json").out)

    for secret in (canary, env_canary, "under-a-secret-key-1", "hidden-password-2"):
        assert secret.encode() not in stored
    assert shown["flags"] & 1
    assert shown["payload"]["output"]["$model"] == "a:B"


@pytest.mark.parametrize(
    ("lines", "number", "fragment"),
    [
        ([], 1, "the file is empty"),
        (["not json"], 1, "malformed"),
        ([{"format": "other", "version": 1, "runs": []}], 1, "other version 1"),
        ([{**HEADER, "version": 3}], 1, "version 3"),
        ([HEADER, event(1), "{"], 3, "truncated"),
        ([HEADER, event(1), {"seq": 2}], 3, "event_id"),
        ([HEADER, event(1, at_ns="soon")], 2, "at_ns"),
        ([HEADER, event(1, at_ns=2**70)], 2, "at_ns"),
        ([HEADER, event(1, path="no/slash")], 2, "path"),
        ([HEADER, event(1, payload=[1])], 2, "payload"),
        ([HEADER, event(1), event(1)], 3, "a second time"),
        ([HEADER, event(1, run="unknown")], 2, "not in the header"),
        ([HEADER, event(1, branch="b")], 2, "not in the header"),
        ([FORKED, event(1), event(2, branch="b")], 3, "before the event it was forked at"),
        ([HEADER, event(1), '{"seq":' + "[" * 100_000], 3, "nests deeper"),
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_a_wrong_line_is_named_and_nothing_is_imported(
    other: Cli, tmp_path: Path, lines: list[Any], number: int, fragment: str, there: bool
) -> None:
    """The number tells where to look; half a run would be worse than none."""
    path = write(tmp_path / "x.jsonl", *lines)
    if there:
        eventlog.open(other.db).close()

    result = other("import", path)

    assert result.code == 1
    assert f"x.jsonl: line {number}: " in result.err.splitlines()[0]
    assert fragment in result.err.splitlines()[0]
    assert len(result.err.splitlines()) == 2
    assert other.db.exists() == there
    if there:
        assert json.loads(other("runs", "--json").out) == []


def test_another_run_of_that_name_is_not_mixed_up(other: Cli, tmp_path: Path) -> None:
    """Two histories in one would be neither; ``--as`` is the way out."""
    with eventlog.open(other.db) as log:
        log.append("other.history", {}, run="r")
    path = write(tmp_path / "x.jsonl", HEADER, event(1), event(2))

    refused = other("import", path)
    renamed = other("import", path, "--as", "r2")

    assert refused.code == 1
    assert "another run 'r'" in refused.err
    assert "--as NAME" in refused.err
    assert renamed.code == 0
    assert {run["run"]: run["events"] for run in json.loads(other("runs", "--json").out)} == {"r": 1, "r2": 2}


def test_an_export_is_private_complete_and_does_not_overwrite(cli: Cli, tmp_path: Path) -> None:
    """Prompts are private; a file that is there may be the only copy of something."""
    path = tmp_path / "x.jsonl"
    path.write_text("precious", "utf-8")

    refused = cli("export", RUN, "-o", path)
    kept = path.read_text("utf-8")
    forced = cli("export", RUN, "-o", path, "--force")

    assert (refused.code, kept) == (1, "precious")
    assert "--force" in refused.err
    assert forced.code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.glob(".*")] == []
    assert json.loads(path.read_text("utf-8").splitlines()[0])["format"] == "eventlog-jsonl"


def test_an_export_that_fails_leaves_no_file(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither half a file nor a temporary one."""
    from eventlog.read import Reader

    def fail(*_args: object) -> Any:
        raise eventlog.LogDamagedError("eventlog.db", "broken page")

    monkeypatch.setattr(Reader, "decoded", fail)
    result = cli("export", RUN, "-o", tmp_path / "x.jsonl")

    assert result.code == 3
    assert sorted(path.name for path in tmp_path.iterdir() if "jsonl" in path.name) == []


def test_an_export_to_stdout_is_the_file(cli: Cli, exported: Path) -> None:
    """For pipes."""
    result = finish("export", "--all", "-o", "-", "--db", cli.db, env=environment())

    assert result.out == exported.read_text("utf-8")
    assert msgspec.json.decode(result.out.splitlines()[1])["run"] == RUN
