"""The README's commands and programs are run as a new user would."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eventlog.cli.main import COMMANDS as COMMAND_NAMES
from tests.killing import killed_after

README = (Path(__file__).parents[2] / "README.md").read_text()
COMMANDS = re.findall(r"^\$ (.+)$", README, re.MULTILINE)
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)

PIPELINE = next(program for program in PROGRAMS if "run.step(" in program)
ITEMS = ["price-oolong", "price-sencha", "price-assam", "report"]


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the README in ``folder`` with this interpreter's scripts."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    words = shlex.split(command)
    return subprocess.run(
        words, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=100, check=False
    )


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the README's ``tea.py``, recorded."""
    folder = tmp_path_factory.mktemp("tour")
    (folder / "tea.py").write_text(PROGRAMS[0])
    (folder / "pipeline.py").write_text(PIPELINE)
    done = shell(next(c for c in COMMANDS if c.startswith("eventlog record")), folder)

    assert done.returncode == 0, done.stderr
    assert "Buy oolong." in done.stdout
    return folder


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_command_of_the_readme_works(tour: Path) -> None:
    """Typed one after the other, each exits with 0 and says something."""
    for command in (c for c in COMMANDS if not c.startswith(("eventlog record", "eventlog demo"))):
        done = shell(command, tour)

        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert done.stdout or command.startswith("eventlog export"), command


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_program_of_the_readme_runs(tour: Path) -> None:
    """They are not pseudo-code."""
    for program in PROGRAMS[1:]:
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tour, capture_output=True, text=True, timeout=100, check=False
        )

        assert done.returncode == 0, f"{program}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_pipeline_of_the_readme_survives_a_kill_after_every_step(tmp_path: Path) -> None:
    """What the section on long pipelines promises: killed, started again, it does what is left and says the same."""
    (tmp_path / "tea.py").write_text(PROGRAMS[0])
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    for number in range(1, len(ITEMS) + 1):
        code = killed_after("eventlog.step_completed", 1, ["pipeline.py"], tmp_path)
        page = shell("eventlog session show market --json", tmp_path)

        assert code == -signal.SIGKILL
        assert json.loads(page.stdout)["completed_items"] == ITEMS[:number]
    done = shell("python pipeline.py", tmp_path)
    found = json.loads(shell("eventlog session show market --json", tmp_path).stdout)

    assert done.stdout.splitlines()[-1] == "Buy oolong."
    assert [item["attempts"] for item in found["items"]] == [1, 1, 1, 1]
    assert [feature["status"] for feature in found["features"]] == ["completed"]
    assert len(json.loads(shell("eventlog memory list --json", tmp_path).stdout)) == 3


def test_every_command_there_is_stands_in_the_readme() -> None:
    """Documentation that lags behind is a trap."""
    assert [name for name in COMMAND_NAMES if f"`{name}" not in README and f", `{name}" not in README] == []
