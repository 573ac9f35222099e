"""The page about checkpoints does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from crewai.state.checkpoint_config import CheckpointConfig

from tests.cli_world import ROOT, environment

PAGE = (ROOT / "docs" / "checkpoints.md").read_text("utf-8")


def test_the_examples_run_in_order(tmp_path: Path) -> None:
    """Python in one process, then the commands."""
    python = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    (tmp_path / "page.py").write_text(python)
    env = environment(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=False
    )
    commands = re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE)
    shown = [
        subprocess.run(c.split(), cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=True).stdout
        for c in commands
    ]

    assert "4.20 True\nBuy it." in done.stdout, done.stderr
    assert "[2/2 tasks]" in shown[0]
    assert "Tasks: 2/2 completed" in shown[1]


def test_every_field_of_crewais_configuration_is_in_the_table() -> None:
    """A new one must be compared before a new version of CrewAI is allowed."""
    assert [name for name in CheckpointConfig.model_fields if f"| `{name}" not in PAGE] == []
