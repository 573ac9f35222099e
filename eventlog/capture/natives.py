"""What CrewAI's own checkpoints need of a kickoff, beside its definition: see the view in ``checkpoints.py``."""

from __future__ import annotations

from collections import Counter
from typing import Any

from eventlog.capture.keys import stable_key
from eventlog.codec import AsContent
from eventlog.interrupts import raised_by_handler
from eventlog.logger import Logger
from eventlog.native.entities import CREWAI_VERSION, contexts_of, entity_of
from eventlog.references import kind_of

log = Logger(__name__)


def native_fields(source: Any, event: Any) -> dict[str, Any]:
    """Return the fields that a root's ``eventlog.definition`` gets; none for what CrewAI could not restore.

    ``places`` says under which path each task of a crew will run, so that its output is found in any process.
    """
    try:
        entity = entity_of(source, getattr(event, "inputs", None))
    except Exception as error:  # a checkpoint is missing from the view, the run goes on
        if raised_by_handler(error):
            raise
        log.warning("no_native_checkpoint", error=repr(error))
        return {}
    if entity is None:
        return {}
    fields = {"native": AsContent(entity, whole=True), "crewai_version": CREWAI_VERSION}
    if entity["entity_type"] == "crew":
        fields |= {"places": places_of(source.tasks), "contexts": contexts_of(source)}
    return fields


def places_of(tasks: Any) -> list[str]:
    """Return the last label of each task's path."""
    seen: Counter[str] = Counter()
    labels = []
    for task in tasks:
        label = f"task[{(stable_key(task) or '?')[:8]}]"
        labels.append(f"{label}#{seen[label]}")
        seen[label] += 1
    return labels


def refuses_checkpoints(source: Any, event: Any) -> bool:
    """Whether an event may trigger no checkpoint: ``checkpoint=False`` on its agent, or on the crew or flow.

    As CrewAI inherits it: an agent's own word counts, without one that of its crew. What has neither, a model or
    a tool, has the word of the agent it works for.
    """
    kind = kind_of(source)
    if kind in ("crew", "flow"):
        return getattr(source, "checkpoint", None) is False
    agent = source if kind == "agent" else getattr(source, "agent", None) or getattr(event, "from_agent", None)
    said = getattr(agent, "checkpoint", None)
    if said is None and agent is not None:
        said = getattr(getattr(agent, "crew", None), "checkpoint", None)
    return said is False
