"""The pytest plugin as its users meet it: a session of its own in a folder of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli_world import environment

CREW = """
import os, pathlib
import pytest
from crewai import Agent, Crew, Task
from eventlog.testing import ScriptedLLM

CALLS = pathlib.Path(__file__).with_name("calls")

class Counted(ScriptedLLM):
    def call(self, *args, **kwargs):
        with CALLS.open("a") as file:
            file.write("x")
        return super().call(*args, **kwargs)

def make_crew():
    agent = Agent(role="Writer", goal="Write", backstory="Expert", llm=Counted())
    manner = os.environ.get("MANNER", "well")
    texts = [f"Do step 0 about {{topic}}", f"Do step 1 {manner}"]
    tasks = [Task(name=t, description=t, expected_output="Text", agent=agent) for t in texts]
    return Crew(name="writers", agents=[agent], tasks=tasks)
"""
TESTS = """
import asyncio, os
from made_here import make_crew

def test_one(eventlog_run):
    assert "Writer saw" in eventlog_run.kickoff(make_crew(), inputs={"topic": "tea"}).raw

def test_two_ways(eventlog_run):
    result = asyncio.run(eventlog_run.akickoff(make_crew(), inputs={"topic": "tea"}))
    results = eventlog_run.kickoff_for_each(make_crew(), [{"topic": "tea"}, {"topic": "milk"}])
    assert len({r.raw for r in [result, *results]}) == 2

def test_code_that_knows_nothing_of_it(eventlog_run):
    with eventlog_run.directed():
        make_crew().kickoff(inputs={"topic": "tea"})
        if not os.environ.get("LESS"):
            make_crew().kickoff(inputs={"topic": "tea"})
"""
CALLS_LIVE = 2 + 2 * 3 + 2 * 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder of tests."""
    (tmp_path / "made_here.py").write_text(CREW, "utf-8")
    (tmp_path / "test_crew.py").write_text(TESTS, "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", "utf-8")
    return tmp_path


def session(folder: Path, *args: str, **env: str) -> tuple[int, str]:
    """Run pytest in a process of its own; return its exit code and what it says."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args]
    result = subprocess.run(
        command,
        cwd=folder,
        env={**environment(**env), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        check=False,
        text=True,
        timeout=110,
    )
    return result.returncode, result.stdout + result.stderr


def calls(folder: Path) -> int:
    """Return how often a model was really called; then forget it."""
    file = folder / "calls"
    count = len(file.read_text("utf-8")) if file.exists() else 0
    file.unlink(missing_ok=True)
    return count


def test_what_is_recorded_once_is_replayed_for_free(folder: Path) -> None:
    """Live with the option, then from one small file for each test; an edit is told; nothing is left beside it."""
    assert session(folder, "--eventlog-record")[0] == 0
    assert calls(folder) == CALLS_LIVE
    recordings = sorted((folder / "recordings" / "test_crew").iterdir())
    assert [path.name for path in recordings] == [
        "test_code_that_knows_nothing_of_it.db", "test_one.db", "test_two_ways.db"
    ]  # fmt: skip
    before = [path.read_bytes() for path in recordings]
    assert all(len(data) < 200_000 for data in before)
    assert not any(str(folder).encode() in data for data in before)
    for path in recordings:
        path.chmod(0o400)
    recordings[0].parent.chmod(0o500)

    default, replay = session(folder), session(folder, "--eventlog-replay")
    edited = session(folder, MANNER="badly")
    less = session(folder, "-k", "nothing", LESS="1")

    assert default[0] == replay[0] == 0, default[1]
    assert calls(folder) == 0
    assert sorted((folder / "recordings" / "test_crew").iterdir()) == recordings
    assert [path.read_bytes() for path in recordings] == before
    assert edited[0] == 1
    assert "3 failed" in edited[1]
    assert all(text in edited[1] for text in ("not what is recorded", "/task[", "well", "badly", "--eventlog-record"))
    assert less[0] == 1
    assert "recorded, but not kicked off by the test: crew writers" in less[1]


def test_a_missing_recording_fails_and_says_how_to_make_one(folder: Path) -> None:
    """Nothing is called; the command is one to copy."""
    code, said = session(folder, "-k", "test_one")

    assert code == 1
    assert calls(folder) == 0
    assert "has no recording" in said
    assert "pytest --eventlog-record 'test_crew.py::test_one'" in said


def test_names_of_tests_become_names_of_files(folder: Path) -> None:
    """Parameters and classes keep their recordings apart; the folder can be chosen."""
    (folder / "pytest.ini").write_text("[pytest]\neventlog_recordings = tapes\n", "utf-8")
    (folder / "test_crew.py").write_text(
        "import pytest\nfrom made_here import make_crew\n"
        "class TestIt:\n"
        "    @pytest.mark.parametrize('topic', ['a/b', 'a-b'])\n"
        "    def test_it(self, eventlog_run, topic):\n"
        "        eventlog_run.kickoff(make_crew(), inputs={'topic': topic})\n",
        "utf-8",
    )

    assert session(folder, "--eventlog-record")[0] == 0
    assert len(list((folder / "tapes" / "test_crew").glob("TestIt.test_it-*.db"))) == 2
    assert session(folder)[0] == 0


def test_the_plugin_costs_nothing_until_it_is_used(folder: Path) -> None:
    """CrewAI and the log are not imported when pytest starts; without the plugin there is no fixture."""
    (folder / "test_crew.py").write_text(
        "import sys\ndef test_it():\n"
        "    assert 'eventlog.pytest_plugin' in sys.modules\n"
        "    assert not {'crewai', 'eventlog.log', 'eventlog.codec'} & set(sys.modules)\n",
        "utf-8",
    )

    assert session(folder)[0] == 0
    (folder / "test_crew.py").write_text(TESTS, "utf-8")
    code, said = session(folder, "-p", "no:eventlog", "-k", "test_one")
    assert code == 1
    assert "fixture 'eventlog_run' not found" in said


def test_both_options_at_once_are_refused(folder: Path) -> None:
    """They answer one question."""
    code, said = session(folder, "--eventlog-record", "--eventlog-replay")

    assert code == 4
    assert "exclude each other" in said
