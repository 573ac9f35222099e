"""A recorded scenario, and what CrewAI's own tools see of it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
from crewai.state.checkpoint_config import CheckpointConfig

import eventlog
from tests.cli_world import environment
from tests.scenarios import Scenario, World, build

RUN = "r"


class Row(msgspec.Struct):
    """A row of the view, read as CrewAI reads it."""

    id: str
    parent_id: str | None
    branch: str
    data: dict[str, Any]
    chars: int

    @property
    def entity(self) -> dict[str, Any]:
        """The one entity."""
        (entity,) = self.data["entities"]
        return dict(entity)


def record(db: Path, name: str, **options: Any) -> tuple[Scenario, Any]:
    """Run a scenario with a log; return it and its result."""
    scenario = build(name, World())
    with eventlog.open(db, **options) as log, log.run(RUN):
        return scenario, scenario.start()


def rows(db: Path) -> list[Row]:
    """Return the view, oldest first."""
    connection = sqlite3.connect(db)
    try:
        sql = "SELECT id, parent_id, branch, json(data) FROM checkpoints ORDER BY rowid"
        return [Row(i, p, b, json.loads(d), len(d)) for i, p, b, d in connection.execute(sql)]
    finally:
        connection.close()


def config(db: Path, row: Row | str, **options: Any) -> CheckpointConfig:
    """Return the configuration that restores a checkpoint."""
    return CheckpointConfig(restore_from=f"{db}#{row if isinstance(row, str) else row.id}", **options)


def crewai(*args: object, folder: Path, **env: str) -> str:
    """Return what a real ``crewai checkpoint`` command prints."""
    command = [str(Path(sys.executable).with_name("crewai")), "checkpoint", *map(str, args)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, cwd=folder, env=environment(**env)
    )
    return done.stdout + done.stderr
