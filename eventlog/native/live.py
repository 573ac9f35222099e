"""Tools and models that a file can only name: they are found among the objects that live in this process.

First by the ticket of an object this process saw when it recorded; else, in another process, among those
handed to ``register`` and all that live, by class, function and name. What is in the file is a key, never code.
"""

from __future__ import annotations

import gc
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

from crewai.agents.agent_builder import base_agent
from crewai.llms.base_llm import BaseLLM
from crewai.tools.base_tool import BaseTool

from eventlog.errors import NotFoundError
from eventlog.references import class_name, read_fact

KEPT_MAX = 200
"""Objects kept alive for a restore in this process: those seen last."""
LLM_TYPE = "eventlog.live"
"""What CrewAI's table of model types knows our models by."""
base_agent._LLM_TYPE_REGISTRY[LLM_TYPE] = "eventlog.native.LiveLLM"  # noqa: SLF001 - the table has no other door


class LiveObjectMissingError(NotFoundError):
    """A checkpoint names a tool or model that this process does not have, or has several of."""

    what = "live object"
    hint = "make the crew's objects before restoring, or name the right one: eventlog.native.register(tool)"

    def __str__(self) -> str:
        """Say which."""
        return f"this process has no such object, or several: {self.args[0]}"


class Seen:
    """The live objects of this process that files may name."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self._tickets: dict[int, tuple[str, Callable[[], Any]]] = {}
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._registered: list[Any] = []

    def ticket(self, obj: Any) -> str:
        """Return the ticket of an object, by which it is found while it lives; the last ones are kept alive."""
        mark = id(obj)
        known = self._tickets.get(mark)
        if known is None or known[1]() is not obj:
            known = (uuid4().hex[:16], weakref.ref(obj, lambda _gone: self._tickets.pop(mark, None)))
            self._tickets[mark] = known
        self._kept.pop(mark, None)
        self._kept[mark] = obj
        while len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return known[0]

    def register(self, objects: Iterable[Any]) -> None:
        """Prefer these to others of the same name, the last first."""
        self._registered.extend(objects)

    def find(self, base: type, facts: dict[str, Any]) -> Any:
        """Return the one object that ``facts`` mean.

        Raises:
            LiveObjectMissingError: none, or several.
        """
        for ticket, seen_one in list(self._tickets.values()):
            if ticket == facts.get("ticket") and isinstance(obj := seen_one(), base):
                return obj
        wanted = {k: v for k, v in facts.items() if k not in ("ticket", "owner")}
        for obj in reversed(self._registered):
            if facts_of(obj) == wanted:
                return obj
        alive = [obj for obj in gc.get_objects() if issubclass(type(obj), base) and facts_of(obj) == wanted]
        return _only(alive, facts)


def _only(alive: list[Any], facts: dict[str, Any]) -> Any:
    """Return the one object; of several the one that an agent of the wanted role has."""
    if len(alive) > 1:
        owned = {id(obj) for agent in _agents(facts.get("owner")) for obj in (*(agent.tools or ()), agent.llm)}
        alive = [obj for obj in alive if id(obj) in owned]
    if len(alive) != 1:
        raise LiveObjectMissingError(f"{facts.get('name')} ({facts.get('function') or facts.get('class')})")
    return alive[0]


def _agents(role: Any) -> list[Any]:
    """Return the live agents of a role, before or after inputs were filled in."""
    agents = [obj for obj in gc.get_objects() if issubclass(type(obj), base_agent.BaseAgent)]
    return [agent for agent in agents if role in (agent.role, agent._original_role)]  # noqa: SLF001 - no public name


def facts_of(obj: Any) -> dict[str, Any]:
    """Return what is the same in every process: class, name and, of a function tool, the function."""
    function = getattr(obj, "func", None)
    facts = {"class": class_name(type(obj)), "name": read_fact(obj, "name") or read_fact(obj, "model")}
    return {**facts, "function": class_name(function)} if function is not None else facts


def live_facts(obj: Any, owner: str | None) -> dict[str, Any]:
    """Return what a checkpoint keeps of a live object; ``owner`` is the role of the agent that has it."""
    return {**facts_of(obj), "owner": owner, "ticket": seen.ticket(obj)}


seen = Seen()
"""The one registry of this process."""


def register(*objects: Any) -> None:
    """Let checkpoints that name such a tool or model come back with this one."""
    seen.register(objects)


class LiveTool:
    """Stands in a checkpoint for a tool that cannot be written down."""

    @classmethod
    def model_validate(cls, data: dict[str, Any]) -> Any:
        """Return the live tool that CrewAI asks for.

        Raises:
            LiveObjectMissingError: this process does not have it.
        """
        return seen.find(BaseTool, _facts(data))


class LiveLLM:
    """Stands in a checkpoint for a model whose class is not one of CrewAI's."""

    def __new__(cls, **data: Any) -> Any:  # CrewAI calls the class it finds in its table
        """Return the live model that CrewAI asks for.

        Raises:
            LiveObjectMissingError: this process does not have it.
        """
        return seen.find(BaseLLM, _facts(data))


def _facts(data: dict[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint says of a live object."""
    facts = data.get("live")
    if not isinstance(facts, dict):
        raise LiveObjectMissingError(str(data.get("name") or data.get("model")))
    return facts
