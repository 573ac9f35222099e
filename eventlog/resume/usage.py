"""The tokens of calls that are not made again, added to the sums of the models that made them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from crewai.llms.base_llm import BaseLLM

from eventlog.capture.keys import stable_key
from eventlog.lineage import SEQ_MAX
from eventlog.references import kind_of
from eventlog.resume.exchanges import Exchange
from eventlog.resume.models import count_tokens, usage_of

if TYPE_CHECKING:
    from eventlog.resume.player import TapePlayer


def account(player: TapePlayer, path: str, entity: Any, *, before: int = SEQ_MAX, agent: Any = None) -> list[Exchange]:
    """Count the recorded model calls in a scope and below, up to a seq, as made, and return them.

    They are added to the model of the agent that asked, by its key or role; else to that of ``agent``.
    """
    with player.lock:
        tape = player.tape
        known = (e for kind in (tape.spent, tape.llm) for e in tape.below(path, kind))
        calls = [e for e in known if not e.is_served and e.seq < before]
        for exchange in calls:
            exchange.is_served = True
        counted = [e for e in calls if not e.failed]
        player.tally.llm_served += len(counted)
    agents = list(_agents(entity))
    models = {name: a.llm for a in agents for name in (str(a.role).strip(), stable_key(a))}
    fallback = getattr(agent, "llm", None)
    nobodys = _model_of_memory(agent) or fallback  # a memory asks in nobody's name; a silent model's agent is unknown
    for exchange in counted:
        identity, role = exchange.agent
        key = player.tape.agent_keys.get(str(identity))
        llm = models.get(key) or models.get(str(role).strip(), nobodys if exchange.completed else fallback)
        if isinstance(llm, BaseLLM):
            count_tokens(llm, usage_of(exchange))
    return counted


def _model_of_memory(agent: Any) -> Any:
    """Return the model that an agent's memory asks, or that of its crew."""
    owners = (agent, getattr(agent, "crew", None))
    memories = [getattr(owner, name, None) for owner in owners for name in ("memory", "_memory")]
    models = (getattr(memory, "llm", None) for memory in memories)
    return next((model for model in models if isinstance(model, BaseLLM)), None)


def _agents(entity: Any) -> Iterator[Any]:
    """Yield the agents of a crew, task or agent."""
    kind = kind_of(entity)
    if kind == "agent":
        yield entity
    elif kind == "crew":
        yield from entity.agents
        yield from (a for a in [getattr(entity, "manager_agent", None)] if a is not None)
    elif kind == "task" and entity.agent is not None:
        yield entity.agent
