"""What a crew, flow, agent or task is made of: enough to show it, to match it after a restart, to restore it later.

Live objects inside become references without ids (ids are new in every process), so the
same program has the same definition. Credentials are taken out by the encoder.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from eventlog.capture.attributes import sets_attributes
from eventlog.capture.keys import stable_key
from eventlog.codec import AsContent
from eventlog.references import class_name, kind_of, read_fact, reference

VOLATILE = frozenset(
    "id output start_time end_time retry_count used_tools tools_errors delegations i18n processed_by_agents"
    " usage_metrics token_usage agent_executor executor_class tools_handler cache_handler crew agent_ops_agent_name"
    " execution_logs task_execution_output_json_files checkpoint checkpoint_kickoff_event_id checkpoint_inputs"
    " checkpoint_train checkpoint_original_description fingerprint security_config execution_context"
    " tools_results prompt_context human_feedback_history last_human_feedback current_usage_count token_process"
    " formatting_errors telemetry state".split()
)
"""Fields that say how a run goes, not what runs."""


def definition_of(
    source: Any, event: Any, known_agents: Collection[str | None], *, is_execution: bool
) -> dict[str, Any] | None:
    """Return the payload of ``eventlog.definition`` for a root event, or for an agent's first appearance.

    Agents are looked at again when they start: the manager of a hierarchical crew is made at run time.
    """
    if event.type == "agent_execution_started":
        return None if read_fact(event.agent, "id") in known_agents else _agent_definition(event.agent)
    if not is_execution:
        return None
    if event.type == "crew_kickoff_started":
        return _crew_definition(source)
    if event.type == "flow_started":
        return _flow_definition(source)
    if event.type == "task_started":
        return _task_definition(event.task)
    return _agent_definition(source)


def definition_of_entity(entity: Any) -> dict[str, Any] | None:
    """Return the payload of ``eventlog.definition`` for a crew, flow, agent or task that has not started."""
    makers = {"crew": _crew_definition, "flow": _flow_definition, "task": _task_definition, "agent": _agent_definition}
    make = makers.get(kind_of(entity) or "")
    return make(entity) if make is not None else None


def _crew_definition(crew: Any) -> dict[str, Any]:
    """The crew, its agents and its tasks in order."""
    agents, tasks = list(crew.agents), list(crew.tasks)
    manager = getattr(crew, "manager_agent", None)
    everyone = [*agents, *([manager] if manager is not None else [])]
    content = {
        **fields_of(crew, skip=frozenset({"agents", "tasks", "manager_agent"})),
        "agents": [fields_of(a) for a in everyone],
        "tasks": [{**fields_of(t), "context": _context_of(t, tasks)} for t in tasks],
    }
    return {
        "kind": "crew",
        "key": stable_key(crew),
        "name": read_fact(crew, "name"),
        "agents": [_agent_line(a) for a in everyone],
        "tasks": [_task_line(t) for t in tasks],
        "definition": AsContent(content),
    }


def _flow_definition(flow: Any) -> dict[str, Any]:
    """The flow's class and methods; its state is in its events."""
    methods = getattr(flow, "_methods", None)
    names = sorted(map(str, methods)) if isinstance(methods, dict) else []
    content = {**fields_of(flow), "methods": names, "sources": dict(_sources(type(flow), tuple(names)))}  # type: ignore[arg-type]  # classes are hashable
    name = type(flow).__qualname__
    return {
        "kind": "flow",
        "key": name,
        "name": read_fact(flow, "name") or name,
        "class": class_name(type(flow)),
        "attributes": [n for n in names if sets_attributes(type(flow), n)],  # type: ignore[arg-type]  # the same
        "definition": AsContent(content),
    }


@lru_cache(maxsize=256)
def _sources(cls: Any, names: tuple[str, ...]) -> dict[str, str]:
    """Return a hash of the source of each method: an edited one is run again after a restart."""
    found: dict[str, str] = {}
    for name in names:
        method = getattr(cls, name, None)
        try:
            text = inspect.getsource(inspect.unwrap(getattr(method, "_meth", method)))  # type: ignore[arg-type]
        except (OSError, TypeError):  # no source: typed at a prompt, or built in
            continue
        found[name] = blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return found


def _task_definition(task: Any) -> dict[str, Any]:
    """A task that runs outside a crew, and its agent."""
    agent = getattr(task, "agent", None)
    content = {**fields_of(task), "agent": fields_of(agent) if agent is not None else None}
    return {
        "kind": "task",
        "key": stable_key(task),
        "name": read_fact(task, "name"),
        "agents": [_agent_line(agent)] if agent is not None else [],
        "tasks": [_task_line(task)],
        "definition": AsContent(content),
    }


def _agent_definition(agent: Any) -> dict[str, Any] | None:
    """One agent."""
    if kind_of(agent) != "agent":
        return None
    return {
        "kind": "agent",
        "key": stable_key(agent),
        "name": read_fact(agent, "role"),
        "agents": [_agent_line(agent)],
        "definition": AsContent(fields_of(agent)),
    }


def _agent_line(agent: Any) -> dict[str, Any]:
    """What finds an agent again."""
    return {"id": read_fact(agent, "id"), "key": stable_key(agent), "role": read_fact(agent, "role")}


def _task_line(task: Any) -> dict[str, Any]:
    """What finds a task again, and what a list of tasks shows."""
    return {
        "id": read_fact(task, "id"),
        "key": stable_key(task),
        "name": read_fact(task, "name"),
        "description": getattr(task, "description", None),
        "agent": read_fact(getattr(task, "agent", None), "role"),
    }


def _context_of(task: Any, tasks: list[Any]) -> list[int] | None:
    """Return the positions of the tasks whose output a task is given; ``None``: those before it."""
    context = getattr(task, "context", None)
    if not isinstance(context, (list, tuple)):
        return None
    return [i for i, other in enumerate(tasks) if any(other is c for c in context)]


def fields_of(obj: Any, skip: frozenset[str] = frozenset(), depth: int = 0) -> dict[str, Any]:
    """Return the public declared fields of a live object, live objects inside as their own fields or references."""
    names = getattr(type(obj), "model_fields", {})
    out: dict[str, Any] = {"class": class_name(type(obj))}
    for name in names:
        if name in VOLATILE or name in skip:
            continue
        value = _read(obj, name)
        if value is not None:
            out[name] = _described(value, depth)
    return out


def _read(obj: Any, name: str) -> Any:
    """Return an attribute, a text as it was before inputs were filled in; one that cannot be read is none.

    Past the descriptors of deprecated fields: whether their warning is an error changes with what other threads do.
    """
    try:
        fields = vars(obj) if hasattr(obj, "__dict__") else {}
        return getattr(obj, f"_original_{name}", None) or (fields[name] if name in fields else getattr(obj, name))
    except Exception:
        return None


def _described(value: Any, depth: int) -> Any:
    """Return models and tools in full, other live objects as references without ids."""
    if isinstance(value, (list, tuple)):
        return [_described(v, depth) for v in value]
    kind = kind_of(value)
    if kind in ("llm", "tool") and depth < 2:
        return {**fields_of(value, depth=depth + 1), "function": getattr(value, "func", None)}
    if kind is not None:
        ref = {k.lstrip("$"): v for k, v in (reference(value) or {}).items() if k != "id"}
        return {**ref, "role": _read(value, "role")} if "role" in ref else ref
    shown: Any = type(value).__repr__
    if shown is object.__repr__:  # it would show an address
        return {"class": class_name(type(value))}
    return value
