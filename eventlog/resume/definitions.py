"""Whether what runs now is what ran then: definitions are compared task by task. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventlog.replay.path import above, last_segment
from eventlog.resume.marks import settled

if TYPE_CHECKING:
    from eventlog.resume.player import TapePlayer


def execution_changed(player: TapePlayer, path: str, at: int | None = None) -> bool:
    """Whether an execution is made of something else than at a seq; unknown is unchanged."""
    recorded, live = player.tape.definition(path, at), player.live_definitions.get(path)
    if recorded is None or live is None:
        return False
    then, now = (_own(player.tape.value(d.get("definition"))) for d in (recorded, live))
    return settled(_alike(then, now)) != settled(_alike(now, then))


def _alike(content: Any, other: Any) -> Any:
    """Return a definition without what CrewAI adds to live objects when they run: callbacks, a manager."""
    if not isinstance(content, dict):
        return content
    pairs = [content.get("agents"), other.get("agents") if isinstance(other, dict) else None]
    counts = [len(agents) for agents in pairs if isinstance(agents, list)]
    return {k: _without_callbacks(v[: min(counts)] if k == "agents" and counts else v) for k, v in content.items()}


def _without_callbacks(value: Any) -> Any:
    """Return tasks or agents without their callbacks: a crew hands its own to them."""
    if not isinstance(value, list):
        return value
    own = ("callback", "step_callback")
    return [{k: v for k, v in part.items() if k not in own} if isinstance(part, dict) else part for part in value]


def _own(content: Any) -> Any:
    """Return what the user wrote: of a flow its methods, as CrewAI changes other fields while it runs."""
    if isinstance(content, dict) and "sources" in content:
        return {name: content.get(name) for name in ("class", "methods", "sources")}
    return content


def task_changed(player: TapePlayer, path: str, at: int) -> bool:
    """Whether a task, or the agent that works on it, is defined otherwise than at a seq; unknown is unchanged."""
    execution = above(path)
    recorded, live = player.tape.definition(execution, at), player.live_definitions.get(execution)
    if recorded is None or live is None:
        return False
    then, now = _parts(player.tape.value(recorded), path), _parts(live, path)
    return then is not None and now is not None and settled(then) != settled(now)


def _parts(definition: dict[str, Any], path: str) -> Any:
    """Return a task's own definition and that of its agent; all agents where a manager chooses."""
    key, _, ordinal = last_segment(path).removeprefix("task[").partition("]#")
    content = definition.get("definition")
    lines = definition.get("tasks")
    if not isinstance(content, dict) or not isinstance(lines, list) or not (ordinal.isascii() and ordinal.isdigit()):
        return None
    places = [i for i, line in enumerate(lines) if str(line.get("key"))[:8] == key]
    tasks, agents = content.get("tasks") or [], content.get("agents") or []
    if int(ordinal) >= len(places) or places[int(ordinal)] >= len(tasks):
        return None
    task = tasks[places[int(ordinal)]]
    worker = (task.get("agent") or {}).get("key")
    keys = [line.get("key") for line in definition.get("agents") or []]
    own = {k: v for k, v in task.items() if k not in ("agent", "context")}
    chosen = [agent for agent, key in zip(agents, keys, strict=False) if worker in (None, key)]
    return [*_without_callbacks([own]), _without_callbacks(chosen)]


def flow_methods_changed(player: TapePlayer, path: str) -> set[str]:
    """Return the names of a flow's methods whose source is not what it was."""
    recorded, live = player.tape.definition(path), player.live_definitions.get(path)
    if recorded is None or live is None:
        return set()
    then, now = (_sources(player.tape.value(d.get("definition"))) for d in (recorded, live))
    return {name for name, source in now.items() if name in then and then[name] != source}


def _sources(content: Any) -> dict[str, str]:
    """Return the hash of each method's source."""
    sources = content.get("sources") if isinstance(content, dict) else None
    return sources if isinstance(sources, dict) else {}


def method_name(path: str) -> str:
    """Return the name of the method that a path ends in."""
    return last_segment(path).removeprefix("method[").partition("]#")[0]
