"""What CrewAI's own checkpoints need of a kickoff, beside its definition: see the view in ``checkpoints.py``."""

from __future__ import annotations

from collections import Counter
from typing import Any

from eventlog.capture.keys import stable_key
from eventlog.codec import AsContent
from eventlog.logger import Logger
from eventlog.native.entities import CREWAI_VERSION, contexts_of, entity_of

log = Logger(__name__)


def native_fields(source: Any, event: Any) -> dict[str, Any]:
    """Return the fields that a root's ``eventlog.definition`` gets; none for what CrewAI could not restore.

    ``places`` says under which path each task of a crew will run, so that its output is found in any process.
    """
    try:
        entity = entity_of(source, getattr(event, "inputs", None))
    except Exception as error:  # a checkpoint is missing from the view, the run goes on
        log.warning("no_native_checkpoint", error=repr(error))
        return {}
    if entity is None:
        return {}
    fields = {"native": AsContent(entity, whole=True), "crewai_version": CREWAI_VERSION}
    if entity["entity_type"] == "crew":
        fields |= {"places": _places(source.tasks), "contexts": contexts_of(source)}
    return fields


def _places(tasks: Any) -> list[str]:
    """Return the last label of each task's path."""
    seen: Counter[str] = Counter()
    labels = []
    for task in tasks:
        label = f"task[{(stable_key(task) or '?')[:8]}]"
        labels.append(f"{label}#{seen[label]}")
        seen[label] += 1
    return labels
