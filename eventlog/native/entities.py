"""A crew, flow or agent as CrewAI restores it, field by field: one that cannot be written down is left out.

No live object, callback, memory or credential goes in; the encoder redacts the rest. Texts have the inputs
filled in, as in CrewAI's own checkpoints, and tasks keep their templates beside them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from crewai.agents.agent_builder.base_agent import _LLM_TYPE_REGISTRY, BaseAgent
from crewai.crew import Crew
from crewai.flow.flow import Flow
from crewai.llms.base_llm import BaseLLM
from crewai.tools.base_tool import BaseTool, Tool
from crewai.utilities.string_utils import interpolate_only

from eventlog.native.live import LLM_TYPE, live_facts
from eventlog.redact import SECRET_KEY

CREWAI_VERSION = version("crewai")

_CREW = frozenset(
    "agents tasks manager_agent checkpoint memory execution_context usage_metrics token_usage knowledge"
    " knowledge_sources skills embedder config tracing output_log_file checkpoint_inputs checkpoint_train"
    " checkpoint_kickoff_event_id task_execution_output_json_files execution_logs security_config".split()
)
_AGENT = frozenset(
    "agent_executor tools_handler cache_handler crew llm tools function_calling_llm knowledge knowledge_sources"
    " knowledge_storage knowledge_config checkpoint guardrail execution_context tools_results memory i18n a2a mcps apps"
    " config embedder skills security_config checkpoint_kickoff_event_id role goal backstory planning_llm".split()
)
_TASK = frozenset(
    "agent tools callback guardrail guardrails context output input_files converter_cls config security_config"
    " description expected_output processed_by_agents used_tools tools_errors delegations start_time end_time"
    " retry_count checkpoint_original_description checkpoint_original_expected_output condition".split()
)
_LLMS = ("manager_llm", "planning_llm", "chat_llm")
_PORTABLE = ("model", "temperature", "max_tokens", "base_url")
"""What of one of CrewAI's own models goes in; its key comes from the environment again."""


def entity_of(source: Any, inputs: Any) -> dict[str, Any] | None:
    """Return the entity of what a kickoff runs; ``None`` for what CrewAI's checkpoints do not know."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reading a field that CrewAI deprecates is not the user's doing
        values = dict(inputs) if isinstance(inputs, Mapping) else {}
        if isinstance(source, Crew):
            return _crew(source, values)
        if isinstance(source, Flow):
            return {"entity_type": "flow", "name": source.name or type(source).__name__}
        if isinstance(source, BaseAgent):
            return {"entity_type": "agent", **_agent(source, {})}
    return None


def contexts_of(crew: Any) -> list[list[int] | None]:
    """Return for each task the earlier tasks its context names; ``None``: all before it."""
    tasks = list(crew.tasks)
    found: list[list[int] | None] = []
    for task in tasks:
        wanted = task.context if isinstance(task.context, (list, tuple)) else None
        found.append(
            None if wanted is None else [i for i, other in enumerate(tasks) if any(other is w for w in wanted)]
        )
    return found


def _crew(crew: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """A crew with its agents and tasks."""
    manager = crew.manager_agent
    entity = {
        "entity_type": "crew",
        **_fields(crew, _CREW | set(_LLMS)),
        **{name: _llm(llm, None) for name in _LLMS if (llm := getattr(crew, name)) is not None},
        "agents": [_agent(agent, inputs) for agent in crew.agents],
        "tasks": [_task(task, list(crew.agents), inputs) for task in crew.tasks],
    }
    return entity if manager is None else {**entity, "manager_agent": _agent(manager, inputs)}


def _agent(agent: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """An agent with its model and tools."""
    entity = {**_fields(agent, _AGENT), **_introduction(agent, inputs)}
    calling = getattr(agent, "function_calling_llm", None)
    if calling is not None:
        entity["function_calling_llm"] = _llm(calling, agent.role)
    return {**entity, "tools": [_tool(tool, agent.role) for tool in agent.tools or ()]}


def _introduction(agent: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return what an agent needs to be one."""
    texts = {
        name: _filled(getattr(agent, f"_original_{name}", None) or getattr(agent, name), inputs)
        for name in ("role", "goal", "backstory")
    }
    return {"id": str(agent.id), **texts, "llm": _llm(agent.llm, agent.role)}


def _task(task: Any, agents: list[Any], inputs: dict[str, Any]) -> dict[str, Any]:
    """A task; CrewAI finds an agent of the crew again by its role, so a short one stands for it."""
    agent = task.agent
    description = task._original_description or task.description  # noqa: SLF001 - the template has no public name
    expected = task._original_expected_output or task.expected_output  # noqa: SLF001
    entity = {
        **_fields(task, _TASK),
        "id": str(task.id),
        "description": _filled(description, inputs),
        "expected_output": _filled(expected, inputs),
        "checkpoint_original_description": description,
        "checkpoint_original_expected_output": expected,
        "tools": [_tool(tool, read_role(agent)) for tool in task.tools or ()],
    }
    if agent is not None:
        entity["agent"] = (_introduction if any(agent is a for a in agents) else _agent)(agent, inputs)
    return entity


def read_role(agent: Any) -> str | None:
    """Return an agent's role."""
    return None if agent is None else str(agent.role)


def _tool(tool: Any, owner: str | None) -> dict[str, Any]:
    """A tool whose class can be imported in full, any other by name."""
    cls = type(tool)
    portable = isinstance(tool, BaseTool) and not isinstance(tool, Tool) and "<locals>" not in cls.__qualname__
    if portable and cls.__module__ != "__main__":
        try:
            dump = {**tool.model_dump(mode="json", warnings=False), "current_usage_count": 0}
        except Exception:  # a field CrewAI cannot write: then it is a live object
            dump = {"secret": True}
        if not any(SECRET_KEY.search(key) and dump[key] for key in dump):
            return dump
    known = {"name": tool.name, "description": tool.description}
    return {"tool_type": "eventlog.native.LiveTool", **known, "live": live_facts(tool, owner)}


def _llm(llm: Any, owner: str | None) -> Any:
    """A model of CrewAI's without its key, any other by name."""
    if not isinstance(llm, BaseLLM):
        return llm if isinstance(llm, str) else None
    cls = type(llm)
    if _LLM_TYPE_REGISTRY.get(llm.llm_type) != f"{cls.__module__}.{cls.__qualname__}":
        return {"llm_type": LLM_TYPE, "model": llm.model, "live": live_facts(llm, owner)}
    found = {name: getattr(llm, name, None) for name in _PORTABLE}
    plain = {k: v for k, v in found.items() if isinstance(v, (str, int, float))}
    return {"llm_type": llm.llm_type, **plain}


def _fields(obj: Any, skip: frozenset[str] | set[str]) -> dict[str, Any]:
    """Return the declared fields that can be written down and are not as CrewAI would set them anyway."""
    out: dict[str, Any] = {}
    for name in type(obj).model_fields:
        if name in skip or "callback" in name:
            continue
        try:
            out.update(obj.model_dump(mode="json", include={name}, exclude_defaults=True, warnings=False))
        except Exception:  # noqa: S112 - it holds a live object
            continue
    return out


def _filled(text: Any, inputs: dict[str, Any]) -> Any:
    """Return a text with its inputs; as it is when one is missing."""
    try:
        return interpolate_only(text, inputs) if inputs else text
    except Exception:  # CrewAI will say so itself when it fills the text in
        return text
