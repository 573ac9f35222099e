"""Finished tasks: kept as they are when nothing they were made of has changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from eventlog.capture.keys import stable_key
from eventlog.capture.playing import MISSING
from eventlog.logger import Logger
from eventlog.references import read_fact
from eventlog.replay.path import above
from eventlog.resume.definitions import task_changed
from eventlog.resume.marks import settled
from eventlog.resume.revive import UnrevivableError
from eventlog.resume.usage import account

if TYPE_CHECKING:
    from eventlog.resume.player import TapePlayer

log = Logger(__name__)


def output(player: TapePlayer, parent: str | None, task: Any, agent: Any, context: Any) -> Any:
    """Return the output of a finished task; ``MISSING`` when it has to run."""
    scopes = player.recorder.scopes
    if parent is None or scopes.scope(parent) is None:
        return MISSING
    label = scopes.task_label(parent, task)
    path = scopes.next_path(parent, label)
    try:
        kept = _edited(player, path, task, agent) or _kept(player, path, context)
    except UnrevivableError as error:
        log.warning("task_not_kept", task=path, reason=str(error))
        return MISSING
    if kept is None:
        return MISSING
    scopes.skip(parent, label)
    _finish(player, path, task, agent, kept)
    return kept


def condition(player: TapePlayer, parent: str | None, task: Any) -> bool | None:
    """Return whether a conditional task ran; ``None`` when that was never decided."""
    scopes = player.recorder.scopes
    path = scopes.next_path(parent, scopes.task_label(parent, task))
    if path in player.edits.outputs or path in player.edits.resets:
        return None
    if path in player.tape.started:
        return True
    key = f"{above(path)}|{stable_key(task)}"
    with player.lock:
        if player.tape.skipped.get(key, 0) > 0:
            player.tape.skipped[key] -= 1
            return False
    return None


def _kept(player: TapePlayer, path: str, context: Any) -> Any:
    """Return the recorded output if it still holds: same definition, same context, no edit since."""
    finished = player.tape.tasks.get(path)
    if finished is None or player.edits.resets.get(path, 0) > finished.seq:
        return None
    if player.tape.is_unsaved(path):
        return None  # it runs once more from the tape, and its memory is told again
    if not _same_text(player, finished.started.get("context"), context):
        return None
    if task_changed(player, path, finished.seq):
        player.changed(above(path), path)
        return None
    return player.revived(finished.ended.get("output"))


def _same_text(player: TapePlayer, recorded: Any, context: Any) -> bool:
    """Whether a task is given what it was given."""
    old, new = player.tape.value(recorded) or "", player.encoded(context) or ""
    return old == new or settled(old) == settled(new)


def _edited(player: TapePlayer, path: str, task: Any, agent: Any) -> Any:
    """Return the output that a fork gave a task."""
    edit = player.edits.outputs.get(path)
    if edit is None:
        return None
    from crewai.tasks.task_output import TaskOutput  # noqa: PLC0415 - CrewAI is loaded by now

    text = player.tape.value(edit[1])
    raw = text if isinstance(text, str) else json.dumps(text)
    pydantic, json_dict = task._export_output(raw) if task.output_pydantic or task.output_json else (None, None)  # noqa: SLF001
    who = agent or task.agent
    return TaskOutput(
        name=task.name or task.description, description=task.description, expected_output=task.expected_output,
        raw=raw, pydantic=pydantic, json_dict=json_dict, agent=str(getattr(who, "role", "")),
        output_format=task._get_output_format(),  # noqa: SLF001
    )  # fmt: skip


def _finish(player: TapePlayer, path: str, task: Any, agent: Any, kept: Any) -> None:
    """Leave the live task as its run would have left it, and count what it cost."""
    if agent is not None:
        task.agent = agent
    task.output = kept
    count_tools(player, path, task)
    if task.agent is not None:
        task.processed_by_agents.add(task.agent.role)
    crew = getattr(task.agent, "crew", None)
    account(player, path, crew if crew is not None else task, agent=task.agent)
    with player.lock:
        player.tally.tasks_kept += 1
    _fill_cache(player, path, task)


def count_tools(player: TapePlayer, path: str, task: Any) -> None:
    """Count the uses of tools in a task as CrewAI does: at every third it reminds the agent of the format."""
    task.used_tools += sum(len(ends) for lane, ends in player.tape.tool_ends.items() if lane.startswith(path + "/"))


def _fill_cache(player: TapePlayer, path: str, task: Any) -> None:
    """Give CrewAI's cache of tool results what the task's tools returned: a later task may ask the same."""
    handler = getattr(task.agent, "tools_handler", None)
    cache = getattr(handler, "cache", None)
    for exchange in player.tape.below(path, player.tape.tools):
        box = exchange.fields.get("result")
        if cache is None or exchange.failed or not isinstance(box, dict):
            continue
        started = player.tape.arguments(exchange.lane)
        if started is None:
            continue
        try:
            name, args, value = started[0], player.revived(started[1]), player.revived(box.get("value"))
        except UnrevivableError:
            continue
        if _caches(task, name, args, value):
            cache.add(tool=name, input=args if isinstance(args, str) else json.dumps(args), output=value)


def _caches(task: Any, name: str, args: Any, value: Any) -> bool:
    """Whether a tool's results may be used again."""
    for tool in [*(task.tools or ()), *(getattr(task.agent, "tools", None) or ())]:
        if read_fact(tool, "name") == name:
            try:
                return bool(tool.cache_function(args, value))
            except Exception:  # a function of the user's: then CrewAI would have failed as well
                return False
    return True
