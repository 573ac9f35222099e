"""What users import."""

from __future__ import annotations

import importlib
import inspect
import pickle
import subprocess
import sys

import pytest

import eventlog
from eventlog import errors

SLOW = ("crewai", "sqlite_utils", "structlog", "rich", "pydantic")


def test_every_public_name_can_be_imported_and_is_listed() -> None:
    """``__all__`` and what can be imported are the same."""
    assert sorted(eventlog.__all__) == eventlog.__all__
    assert all(getattr(eventlog, name) is not None for name in eventlog.__all__)
    assert set(eventlog.__all__) <= set(dir(eventlog))


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Lazy loading must not change what a typo does."""
    with pytest.raises(AttributeError, match="nonsense"):
        _ = eventlog.nonsense


@pytest.mark.parametrize("use", ["import eventlog", "import eventlog; eventlog.open(PATH).close()"])
def test_neither_importing_nor_reading_loads_crewai(use: str, tmp_path: object) -> None:
    """A log can be opened and read where CrewAI would take seconds to import."""
    path = f"{tmp_path}/x.db"
    with eventlog.open(path):
        pass
    code = f"PATH = {path!r}\n{use}\nimport sys; print([m for m in {SLOW} if m in sys.modules])"

    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout

    assert shown.strip() == "[]"


@pytest.mark.parametrize("name", [n for n in errors.__dict__ if n.endswith("Error")])
def test_every_error_is_in_the_tree_is_exported_and_survives_pickling(name: str) -> None:
    """Errors cross process borders; their facts must arrive."""
    cls = getattr(errors, name)
    count = len(
        [p for p in inspect.signature(cls.__init__).parameters.values() if p.name not in ("self", "args", "kwargs")]
    )
    error = cls(*[f"a{i}" if name != "AmbiguousCursorError" or i == 0 else 3 for i in range(count or 1)])
    again = pickle.loads(pickle.dumps(error))

    assert issubclass(cls, errors.EventLogError)
    assert name in (errors.__doc__ or "")
    assert name in eventlog.__all__
    assert str(again) == str(error)


@pytest.mark.parametrize("name", ["replay", "cli"])
def test_the_inner_packages_refuse_to_be_imported_twice(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second copy of the classes would make ``except`` clauses miss."""
    monkeypatch.syspath_prepend(str(importlib.import_module("pathlib").Path(eventlog.__file__).parent.parent))

    with pytest.raises(ImportError, match=f"eventlog.{name}"):
        importlib.import_module(name)
