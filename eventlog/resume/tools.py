"""Tools from the tape, and what to do about those that were under way."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from eventlog.capture.playing import Served
from eventlog.logger import Logger
from eventlog.references import read_fact
from eventlog.resume.divergence import ToolInFlightError
from eventlog.resume.exchanges import Answer, Exchange, OpenTool, pick
from eventlog.resume.revive import UnrevivableError
from eventlog.resume.usage import account

if TYPE_CHECKING:
    from eventlog.resume.player import TapePlayer

log = Logger(__name__)


def result(player: TapePlayer, lane: str, tool: Any, given: dict[str, Any]) -> Served | None:
    """Return what a tool returned; ``None`` when it has to run.

    Raises:
        ToolInFlightError: it was under way when its process ended, and the policy says not to run it again.
    """
    player.go_on()
    name = read_fact(tool, "name") or ""
    with player.lock:
        exchange = pick(player.tape.tools.get(lane, ()), lambda e: _is_use(player, e, name, lane, given))
    if exchange is not None:
        _claim_use(tool)
        served = _served(player, exchange)
        if served is not None:
            return served
        return _doubtful(player, OpenTool(lane, name, given), "its recorded result cannot be used")
    cached = _cached(player, lane)
    if cached is not None:
        return cached
    if player.tape.was_open(lane):
        return _doubtful(player, OpenTool(lane, name, given), "it was under way when its process ended")
    _live(player)
    return None


def _live(player: TapePlayer) -> None:
    """The tool has to run."""
    player.go_on()
    with player.lock:
        player.tally.tools_live += 1


def _claim_use(tool: Any) -> None:
    """Count a use as CrewAI does before it runs a tool: one whose uses are limited is used up by recorded ones, too."""
    claim = getattr(tool, "_claim_usage", None)
    if claim is not None:
        claim()


def _is_use(player: TapePlayer, exchange: Exchange, name: str, lane: str, given: dict[str, Any]) -> bool:
    """Whether an exchange is this use. A lane that is a tool's own names its arguments; any other does not."""
    if exchange.fields.get("tool") != name:
        return False
    if lane.rpartition("/")[2].startswith("tool["):
        return True
    return bool(player.tape.value(exchange.fields.get("args")) == player.encoded(given))


def _served(player: TapePlayer, exchange: Exchange) -> Served | None:
    """Return the recorded result or error; ``None`` when it cannot be made again."""
    if exchange.failed:
        return player.error_of(exchange)
    box = exchange.fields.get("result")
    try:
        value = player.revived(box.get("value") if isinstance(box, dict) else None)
    except UnrevivableError as error:
        log.warning("not_served", what="tool", where=exchange.lane, reason=str(error))
        return None
    with player.lock:
        player.tally.tools_served += 1
    if exchange.lane in player.tape.busy_tools:
        account(player, exchange.lane, player.entity, before=exchange.seq)
    return Answer(lambda: value)


def _cached(player: TapePlayer, lane: str) -> Served | None:
    """Return what CrewAI took from its cache of tool results: it ended without an exchange."""
    with player.lock:
        ends = player.tape.tool_ends.get(lane) or []
        end = next((e for e in ends if e.get("from_cache")), None)
        if end is None:
            return None
        ends.remove(end)
    try:
        value = player.revived(end.get("output"))
    except UnrevivableError:
        return None
    return Answer(lambda: value)


def _doubtful(player: TapePlayer, use: OpenTool, reason: str) -> Served | None:
    """Do what the policy says about a tool that may have run already."""
    player.tape.started.pop(use.path, None)  # once: a second attempt of CrewAI's is not in doubt
    policy = player.policy.on_tool
    log.warning("tool_in_doubt", tool=use.tool, path=use.path, reason=reason)
    if callable(policy):
        value = policy(use)
        return Answer(lambda: value)
    if isinstance(policy, Mapping):
        key = next((k for k in (use.path, use.tool) if k in policy), None)
        if key is not None:
            return Answer(lambda: policy[key])
    elif policy == "fail":
        player.stop(ToolInFlightError(use.tool, use.path, reason))
    elif policy == "ask":
        return _ask(player, use, reason)
    _live(player)
    return None


def _ask(player: TapePlayer, use: OpenTool, reason: str) -> Served | None:
    """Let the person at the terminal decide."""
    if not (sys.stdin and sys.stdin.isatty()):
        player.stop(ToolInFlightError(use.tool, use.path, f"{reason}, and there is no terminal to ask at"))
    sys.stderr.write(f"Tool {use.tool} with {use.args}: {reason}.\n")
    sys.stderr.write("[r]un it again, [s]upply its result, or [a]bort? ")
    sys.stderr.flush()
    answer = sys.stdin.readline().strip().lower()[:1]
    if answer == "s":
        sys.stderr.write("Result: ")
        sys.stderr.flush()
        text = sys.stdin.readline().rstrip("\n")
        return Answer(lambda: text)
    if answer != "r":
        player.stop(ToolInFlightError(use.tool, use.path, reason))
    _live(player)
    return None
