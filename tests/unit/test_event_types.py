"""Our tables of event types against the CrewAI that is installed."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from eventlog.replay.event_types import CREWAI_TYPES, ENDS, KNOWN_TYPES


def crewai_types() -> set[str]:
    """Return the type of every concrete event class of CrewAI."""
    from crewai.events import types
    from crewai.events.base_events import BaseEvent

    for module in pkgutil.iter_modules(types.__path__):
        importlib.import_module(f"{types.__name__}.{module.name}")
    found: set[str] = set()
    classes: list[Any] = [BaseEvent]
    while classes:
        cls = classes.pop()
        classes.extend(cls.__subclasses__())
        default = cls.model_fields["type"].default
        if cls.__module__.startswith("crewai.events.types") and isinstance(default, str):
            found.add(default)
    return found


def test_ends_are_crewais_pairs() -> None:
    """A scope that CrewAI closes must close here."""
    from crewai.events.event_context import VALID_EVENT_PAIRS

    assert ENDS == VALID_EVENT_PAIRS


def test_every_type_of_the_installed_crewai_is_known() -> None:
    """``unknown_types`` is a warning: it must not fire on plain CrewAI."""
    installed = crewai_types()

    assert installed - KNOWN_TYPES == set()
    assert {t for t in CREWAI_TYPES - installed if not t.startswith("skill_download_")} == set()
