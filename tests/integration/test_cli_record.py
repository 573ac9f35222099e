"""``eventlog record``: a program runs as it would without us, and is captured."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import eventlog
from tests.cli_world import Result, environment, finish, start

SCRIPT = """
import atexit, os, signal, sys, threading, time
print("argv", sys.argv, "path", sys.path[0], "name", __name__, "file", __file__, flush=True)
print("main", sys.modules["__main__"].__dict__ is globals())

def emit(tag):
    from crewai.events import crewai_event_bus
    from crewai.events.base_events import BaseEvent
    class Tagged(BaseEvent):
        type: str = "script_" + tag
    crewai_event_bus.emit(None, Tagged())

def end():
    print("atexit", sys.modules["__main__"].__dict__ is globals())
    if "emit" in sys.argv:
        emit("at_exit")

atexit.register(end)
if "emit" in sys.argv:
    emit("begin")
    threading.Thread(target=lambda: (time.sleep(0.2), emit("late_thread"))).start()
if "raise" in sys.argv:
    def fail():
        raise ValueError("boom")
    fail()
if "exit7" in sys.argv:
    sys.exit(7)
if "text" in sys.argv:
    sys.exit("so it ends")
if "interrupt" in sys.argv:
    raise KeyboardInterrupt
if "wait" in sys.argv:
    print("waiting", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A program in a folder of its own."""
    path = tmp_path / "work" / "program.py"
    path.parent.mkdir()
    path.write_text(SCRIPT, "utf-8")
    return path


def plainly(*args: object, cwd: Path) -> Result:
    """Run python itself."""
    command = [sys.executable, *map(str, args)]
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, check=False, timeout=60)
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("how", ["text", "raise", "interrupt"])
def test_a_recorded_script_behaves_as_under_python(script: Path, tmp_path: Path, how: str) -> None:
    """Same output, same error output, same exit code; our line comes after it."""
    args = [script.name, how, "--run", "--json", "-q"]
    expected = plainly(*args, cwd=script.parent)

    result = finish("record", "--db", tmp_path / "r.db", "--run", "mine", *args, cwd=script.parent)

    assert result.code == expected.code
    assert result.out == expected.out
    assert result.err == f"{expected.err}recorded run mine: 0 events → {tmp_path}/r.db\n"


def test_a_recorded_module_behaves_as_under_python(script: Path, tmp_path: Path) -> None:
    """``-m`` too; -q leaves our line out."""
    expected = plainly("-m", "program", "exit7", "-q", cwd=script.parent)

    result = finish("record", "-q", "--db", tmp_path / "r.db", "-m", "program", "exit7", "-q", cwd=script.parent)

    assert result.code == expected.code == 7
    assert result.out.splitlines()[0] == expected.out.splitlines()[0]
    assert result.err == expected.err == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_a_recorded_script_as_they_would(script: Path, tmp_path: Path, number: signal.Signals) -> None:
    """The parent sees the signal, not an exit code that imitates it; the signal is on record."""
    child = start("record", "--db", tmp_path / "r.db", "--run", "mine", script, "wait")
    while child.stdout and child.stdout.readline() != "waiting\n":
        pass
    child.send_signal(number)
    child.communicate(timeout=30)

    assert child.returncode == -number
    with eventlog.open(tmp_path / "r.db", readonly=True) as log:
        assert [event.type for event in log.events("mine")] == [number.name]


def test_everything_a_process_emits_is_one_run(script: Path, tmp_path: Path) -> None:
    """From the first line, from threads that outlive the script, and from its exit handlers."""
    result = finish("record", "--json", "--db", tmp_path / "r.db", script, "emit", cwd=script.parent)
    [summary] = [json.loads(line) for line in result.err.splitlines()]
    with eventlog.open(tmp_path / "r.db", readonly=True) as log:
        [run] = log.runs()
        types = [event.type for event in log.events(run.run, types=["script_*"])]

    assert types == ["script_begin", "script_late_thread", "script_at_exit"]
    assert run.run.startswith("program-")
    assert summary["run"] == run.run
    assert (summary["events"], summary["lost"], summary["capture_mode"]) == (run.events, 0, "tap")


@pytest.mark.parametrize(
    ("args", "code", "fragment"),
    [
        (["nowhere.py"], 2, "nowhere.py"),
        (["-m", "no.such.module"], 1, "No module named no.such.module"),
        (["--bogus", "x.py"], 2, "--bogus"),
        ([], 2, "SCRIPT"),
    ],
)
def test_a_program_that_is_not_there_is_told_in_one_line(
    tmp_path: Path, args: list[str], code: int, fragment: str
) -> None:
    """And makes no log."""
    result = finish("record", "--db", tmp_path / "r.db", *args, cwd=tmp_path)

    assert result.code == code
    assert result.err.startswith("Error: ")
    assert fragment in result.err.splitlines()[0]
    assert not (tmp_path / "r.db").exists()


def test_a_log_that_cannot_be_written_stops_before_the_script_runs(script: Path, tmp_path: Path) -> None:
    """Nobody wants a run of an hour that was not recorded."""
    (tmp_path / "r.db").write_text("not a database" * 100, "utf-8")

    result = finish("record", "--db", tmp_path / "r.db", script)

    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("Error: ")
