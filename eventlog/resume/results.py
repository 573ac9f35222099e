"""The recorded result of a finished execution, and the live object as its kickoff would have left it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventlog.capture.natives import places_of
from eventlog.logger import Logger
from eventlog.resume import flows, tasks
from eventlog.resume.revive import UnrevivableError
from eventlog.resume.usage import account

if TYPE_CHECKING:
    from eventlog.capture.kickoffs import Kickoff
    from eventlog.resume.player import TapePlayer

log = Logger(__name__)


def recorded_result(player: TapePlayer, kickoff: Kickoff) -> Any:
    """Return what the kickoff returned, typed by the live object's own classes.

    Raises:
        UnrevivableError: it cannot be made again: run the unfinished way, which calls nothing that is recorded.
    """
    found = player.tape.result
    if found is None:
        raise UnrevivableError("the process ended before the result was on record")
    box = found[1].get("result")
    value = player.revived(box.get("value") if isinstance(box, dict) else None)
    _LEAVE.get(kickoff.kind, _leave_nothing)(player, kickoff.entity, value)
    return value


def _leave_crew(player: TapePlayer, crew: Any, result: Any) -> None:
    """Give the tasks their outputs and the crew its token usage."""
    outputs = list(getattr(result, "tasks_output", ()))
    if len(outputs) == len(crew.tasks):
        for task, output, place in zip(crew.tasks, outputs, places_of(crew.tasks), strict=True):
            task.output = output
            tasks.count_tools(player, f"{player.tape.path}/{place}", task)
    crew.token_usage = crew.usage_metrics = getattr(result, "token_usage", None)
    player.tally.tasks_kept += len(outputs)
    _count_calls(player)


def _leave_flow(player: TapePlayer, flow: Any, _result: Any) -> None:
    """Give the flow the state it ended with."""
    if player.tape.last_state is not None:
        flows.restore_state(player, flow, player.tape.last_state)
    player.tally.methods_kept += len(player.tape.methods)
    _count_calls(player)


def _leave_task(player: TapePlayer, task: Any, result: Any) -> None:
    """Give the task its output."""
    task.output = result
    player.tally.tasks_kept += 1
    _count_calls(player)


def _leave_nothing(player: TapePlayer, _entity: Any, _result: Any) -> None:
    """An agent keeps nothing."""
    _count_calls(player)


def _count_calls(player: TapePlayer) -> None:
    """All its model calls were answered from the tape; their tokens are in the sums of the live models."""
    account(player, player.tape.path, player.entity)


_LEAVE = {"crew": _leave_crew, "flow": _leave_flow, "task": _leave_task}
