"""``eventlog resume``: a program that knows nothing of us goes on where its process was killed."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import pytest

import eventlog
from tests.cli_world import ROOT, Cli, Result, environment, finish

PROGRAM = '''
"""Two tasks; the process kills itself at its n-th model call."""
import os
import sys

from crewai import Agent, Crew, Task
from crewai.tools import tool

from eventlog.testing import ScriptedLLM


class Mortal(ScriptedLLM):
    def call(self, *args, **kwargs):
        if len(self.calls) == int(os.environ.get("DIE_AT", "-1")):
            os.kill(os.getpid(), 9)
        return super().call(*args, **kwargs)


@tool("lookup")
def lookup(q: str) -> str:
    """Look up."""
    return f"fact about {q}"


llm = Mortal(tool_rounds=1)
agents = [Agent(role=f"W{i}", goal="g", backstory="b", llm=llm, tools=[lookup]) for i in range(2)]
tasks = [Task(name=f"t{i}", description=f"Do {i}", expected_output="x", agent=agents[i]) for i in range(2)]
result = Crew(agents=agents, tasks=tasks).kickoff(inputs={"word": sys.argv[1]})
print("RESULT", result.raw, "CALLS", len(llm.calls), sys.argv[1:])
'''


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A folder with the program and the log of its run, killed at its third call."""
    (tmp_path / "crew.py").write_text(PROGRAM)
    died = record(tmp_path, "r", DIE_AT="2")

    assert died.code == -9
    return tmp_path


def record(folder: Path, run: str, **env: str) -> Result:
    """Record the program."""
    return finish("record", "--run", run, "crew.py", "tea time", cwd=folder, env=environment(**env))


def resume(folder: Path, *args: str, **env: str) -> Result:
    """Resume in the folder."""
    return finish("resume", *args, cwd=folder, env=environment(**env))


@pytest.mark.slow
def test_the_shown_line_goes_on_with_the_run(killed: Path) -> None:
    """Without a command it says how far it got and what to type; typed, it ends the run like one never killed."""
    shown = resume(killed, "r")
    line = next(line for line in shown.out.splitlines() if line.startswith("eventlog resume"))
    done = finish(*shlex.split(line)[1:], cwd=killed)
    whole = record(killed, "whole")

    assert (shown.code, done.code, whole.code) == (0, 0, 0)
    assert "1 of 2 done" in shown.out
    assert line == "eventlog resume r --db eventlog.db -- python crew.py 'tea time'"
    assert _result(done) == _result(whole)
    assert "CALLS 2 ['tea time']" in done.out
    assert "1 finished task kept, 2 model calls and 0 tool uses from the log, 2 model calls made" in done.err
    with eventlog.open(killed / "eventlog.db", readonly=True) as log:
        assert log.state("r").status == "completed"
        assert log.state("r").llm.calls == log.state("whole").llm.calls == 4


@pytest.mark.slow
def test_it_can_be_killed_again_and_again(killed: Path) -> None:
    """Each start goes one call further; in the end every call was made once, but for those a kill took away."""
    again = resume(killed, "r", "--", "python", "crew.py", "tea time", DIE_AT="1")
    done = resume(killed, "r", "--", sys.executable, "crew.py", "tea time")

    assert again.code == -9
    assert "CALLS 1" in done.out
    assert _result(done) == _result(record(killed, "whole"))


@pytest.mark.slow
def test_a_finished_run_asks_nothing(killed: Path) -> None:
    """The program gets its result from the log, also with --json and as a module."""
    resume(killed, "r", "--", "python", "crew.py", "tea time")
    done = resume(killed, "r", "--json", "--", "-m", "crew", "tea time")
    facts = json.loads(done.err.splitlines()[-1])

    assert "CALLS 0" in done.out
    assert (facts["tasks_kept"], facts["llm_live"], facts["lost"]) == (2, 0, 0)


@pytest.mark.slow
def test_a_fork_is_resumed_by_its_name(killed: Path) -> None:
    """``--branch`` leaves main as it is."""
    forked = finish("fork", "r", "--to", "latest", "--branch", "exp", "--output", "t0=Something else.", cwd=killed)
    done = resume(killed, "r", "--branch", "exp", "--", "python", "crew.py", "tea time")

    assert (forked.code, done.code) == (0, 0)
    assert "CALLS 2" in done.out
    with eventlog.open(killed / "eventlog.db", readonly=True) as log:
        assert log.state("r").status == "interrupted"
        assert log.state("r", branch="exp").tasks[0].output == "Something else."


@pytest.mark.slow
def test_strict_shows_the_difference(killed: Path) -> None:
    """An edited prompt stops with the place and both texts; nothing was asked."""
    text = (killed / "crew.py").read_text()
    (killed / "crew.py").write_text(text.replace('goal="g"', 'goal="another goal"'))
    done = resume(killed, "r", "--on-change", "strict", "--", "python", "crew.py", "tea time")

    assert done.code == 1
    assert "DivergedError" in done.err
    assert "another goal" in done.err


def test_a_run_that_a_living_process_has_open_is_not_resumed(cli: Cli) -> None:
    """The process may go on at any moment; --takeover is for who knows better."""
    with eventlog.open(cli.db) as log, log.run("live") as run:
        run.append("my.note")
        refused = cli("resume", "live", "--", "python", os.devnull)

    assert refused.code == 1
    assert "live" in refused.err
    assert "--takeover" in refused.err


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["nobody"], 1, "no run 'nobody'"),
        (["tea", "--branch", "none"], 1, "no branch 'tea/none'"),
        (["tea", "--", "python", "missing.py"], 2, "missing.py"),
        (["tea", "--", "/bin/ls"], 2, "Python"),
        (["tea", "--on-change", "perhaps", "--", "python", "x.py"], 2, "perhaps"),
        ([], 2, "RUN"),
    ],
)
def test_bad_input_is_one_line_with_a_remedy(cli: Cli, args: list[str], code: int, says: str) -> None:
    """And the right exit code; nothing ran."""
    result = cli("resume", *args)

    assert (result.code, result.out) == (code, "")
    assert says in result.err
    assert "Hint:" in result.err


def test_what_is_shown_is_json_for_programs(cli: Cli) -> None:
    """The same facts."""
    shown = json.loads(cli("resume", "tea", "--json").out)

    assert shown["status"] == "completed"
    assert [task["status"] for task in shown["tasks"]] == ["completed"] * 3
    assert shown["command"][:1] == ["python"]
    assert shown["resume"].startswith("eventlog resume tea --db ")


def _result(done: Result) -> str:
    """Return the crew's answer."""
    return next(line for line in done.out.splitlines() if line.startswith("RESULT")).split(" CALLS")[0]


def test_the_program_of_this_file_is_python() -> None:
    """A slip in the text above would look like a failure of resume."""
    compile(PROGRAM, "crew.py", "exec")

    assert ROOT.is_dir()
