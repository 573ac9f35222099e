"""``eventlog doctor`` and ``eventlog demo``."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest

import eventlog
from eventlog.cli import checks
from tests.cli_world import Cli, environment, finish


def verdicts(cli: Cli, *args: str) -> tuple[int, dict[str, str]]:
    """Return the exit code and check → verdict."""
    result = cli("doctor", "--json", *args)
    return result.code, {check["name"]: check["verdict"] for check in json.loads(result.out)["checks"]}


def test_doctor_finds_nothing_wrong_with_a_good_log_and_captures_a_probe(cli: Cli) -> None:
    """The probe is real: an event on CrewAI's bus, read back from a file."""
    code, found = verdicts(cli)

    assert code == 0
    assert found["capture"] == "ok"
    assert set(found.values()) == {"ok"}


def test_doctor_without_a_log_is_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the first recording there is none; one that was named must be there."""
    from eventlog.cli.main import run

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVENTLOG_DB", raising=False)

    assert run(["doctor", "--no-probe"]) == 0
    assert run(["doctor", "--no-probe", "--db", "named.db"]) == 1
    assert "there is no eventlog.db yet" in capsys.readouterr().out


def test_doctor_tells_what_is_wrong(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these alone makes exit code 1."""
    monkeypatch.setattr(checks, "CREWAI_TESTED", re.compile("nothing"))
    assert verdicts(cli, "--no-probe")[1]["crewai"] == "problem"
    monkeypatch.undo()

    cli.db.chmod(0o644)
    assert verdicts(cli, "--no-probe") == (1, verdicts(cli, "--no-probe")[1] | {"permissions": "problem"})
    cli.db.chmod(0o600)

    monkeypatch.setattr(checks, "file_system_of", lambda _path: "nfs4")
    assert verdicts(cli, "--no-probe")[1]["file system"] == "problem"
    monkeypatch.undo()

    cli.db = tmp_path / "other.db"
    sqlite3.connect(cli.db).execute("CREATE TABLE other (x)").connection.close()
    assert verdicts(cli, "--no-probe")[1]["log"] == "problem"


def test_doctor_tells_of_interrupted_runs_lost_events_and_errors(cli: Cli, tmp_path: Path) -> None:
    """What a person should know about the past of a log."""
    lines = [
        {"format": "eventlog-jsonl", "version": 1,
         "runs": [{"run": "r", "attribution": "named", "branches": [{"branch": "main"}]}]},
        event_line(1, "crew_kickoff_started", path="/crew:abc#0",
                   execution={"kind": "crew", "name": "c", "key": "abc", "inputs_hash": ""}),
        event_line(2, "tool_usage_error", payload={"tool_name": "search", "error": "no network"}),
        event_line(3, "eventlog.capture_gap", payload={"dropped": 7, "cause": "disk full"}),
    ]  # fmt: skip
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    assert cli("import", tmp_path / "x.jsonl").code == 0

    code, found = verdicts(cli, "--no-probe")

    assert code == 1
    assert (found["interrupted"], found["gaps"], found["last errors"]) == ("warning", "problem", "warning")
    assert "search · error: no network" in cli("doctor", "--no-probe").out


def event_line(seq: int, kind: str, **more: object) -> dict[str, object]:
    """Return one event of run ``r`` as an export has it."""
    return {"seq": seq, "event_id": f"event-{seq}", "type": kind, "at_ns": seq * 10**9, "run": "r", **more}


@pytest.mark.parametrize(("mode", "verdict"), [("handlers", "problem"), ("tap", "ok")])
def test_doctor_reports_the_capture_mode(monkeypatch: pytest.MonkeyPatch, mode: str, verdict: str) -> None:
    """The fallback misses events: a person must know."""
    from eventlog.cli import probe

    monkeypatch.setattr(probe, "probe_capture", lambda: probe.ProbeResult(mode, captured=True, last_error=None))

    [check] = checks.check_capture()

    assert check.verdict == verdict


@pytest.mark.slow
def test_demo_shows_a_killed_crew(tmp_path: Path) -> None:
    """Offline, in a minute; every command it prints was run and can be repeated."""
    folder = tmp_path / "demo"
    result = finish("demo", "--dir", folder, env=environment(DEMO_SECONDS_PER_CALL="0"))
    again = finish("demo", "--dir", folder)

    assert (result.code, result.err) == (0, "")
    looked_at = result.out.split("replay --to ")[-1].split("The same program")[0]
    assert result.out.count("eventlog replay --to ") == 3
    assert "signal 9 (SIGKILL)" in result.out
    assert "interrupted" in result.out.split("eventlog runs")[1].split("eventlog log")[0]
    assert looked_at.count("interrupted") == 1
    assert "2  running" in looked_at
    assert again.code == 1
    assert "LLM calls: 4 saved (their answers were in the log), 2 made." in result.out
    assert "1 finished task kept" in result.out
    with eventlog.open(folder / "eventlog.db", readonly=True) as log:
        assert (log.state().status, log.state().llm.calls) == ("completed", 6)
