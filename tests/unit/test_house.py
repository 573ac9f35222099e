"""The project's own files agree with each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import tomli

ROOT = Path(__file__).parents[2]
PACKAGE_LINE = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+( ; python_version (<|>=) \"3\.11\")?")


@pytest.fixture
def project() -> dict[str, Any]:
    """What ``pyproject.toml`` says."""
    return tomli.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_every_package_is_listed_for_the_wheel(project: dict[str, Any]) -> None:
    """A package that is not listed works in the repository and is missing in the wheel."""
    folders = {"eventlog": "eventlog", "replay": "eventlog.replay", "cli": "eventlog.cli"}
    found = {
        ".".join([package, *init.parent.relative_to(ROOT / top).parts])
        for top, package in folders.items()
        for init in (ROOT / top).rglob("__init__.py")
        if not any(parent.is_symlink() for parent in init.parents)
    }

    assert set(project["tool"]["setuptools"]["packages"]) >= found


@pytest.mark.parametrize("name", ["replay", "cli"])
def test_the_links_lead_to_the_real_folders(name: str) -> None:
    """Editors, mypy and import-linter find ``eventlog.replay`` and ``eventlog.cli`` through them."""
    assert (ROOT / "eventlog" / name).readlink() == Path("..") / name


def test_constraints_are_plain_pins(project: dict[str, Any]) -> None:
    """No address of a registry and no path of a machine; every direct dependency is pinned."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    wanted = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["dev"]]
    names = {re.split(r"[<>=;]", requirement)[0] for requirement in wanted}

    assert [line for line in pins if not PACKAGE_LINE.fullmatch(line)] == []
    assert names <= {pin.split("==")[0] for pin in pins}
