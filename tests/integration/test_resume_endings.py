"""However a kickoff ends in a living process, the run says so, can go on, and disturbs no later kickoff."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from crewai.events.event_context import get_current_parent_id

import eventlog
from eventlog.capture.playing import current_kickoff, playing
from eventlog.testing import ScriptedLLM
from tests.integration.resuming import RUN, own
from tests.scenarios import Scenario, World, build, texts

STATUS = {RuntimeError: "failed", SystemExit: "interrupted", KeyboardInterrupt: "interrupted"}
SHAPES = ("sequential_react", "sequential_native", "akickoff", "hierarchical", "flow_with_crew", "agent_kickoff")


class DyingLLM(ScriptedLLM):
    """Raises when its world says so."""

    def _respond(self, request: Any, call: Any) -> Any:
        """Answer, or raise."""
        if DyingWorld.current is not None:
            DyingWorld.current.touch("llm")
        return super()._respond(request, call)


class Runs(list[str]):
    """Notes the runs of a tool; the world may not survive one."""

    def append(self, item: str) -> None:
        """Note one."""
        super().append(item)
        if DyingWorld.current is not None:
            DyingWorld.current.touch("tool")


class DyingWorld(World):
    """Raises an error at the n-th touch of one of its parts, and from then on."""

    current: DyingWorld | None = None

    def __init__(self, part: str, at: int, error: type[BaseException]) -> None:
        """``part``: ``llm`` or ``tool``."""
        super().__init__(DyingLLM)
        self.tool_runs = Runs()
        self._part, self._left, self._error = part, at, error
        DyingWorld.current = self

    def touch(self, part: str) -> None:
        """Note a touch.

        Raises:
            BaseException: the one it was made with.
        """
        self._left -= part == self._part
        if self._left <= 0 and part == self._part:
            raise self._error("the end")


def start(scenario: Scenario, log: eventlog.Log) -> Any:
    """Run a scenario in the run that may be unfinished."""
    with log.run(RUN) as run, run.directed():
        return scenario.start()


@pytest.fixture(autouse=True)
def _no_dying_world() -> Any:
    """Let no world outlive its test."""
    yield
    DyingWorld.current = None


@pytest.mark.parametrize("error", STATUS, ids=lambda error: error.__name__)
@pytest.mark.parametrize("part", ["llm", "tool"])
@pytest.mark.parametrize("name", SHAPES)
def test_a_kickoff_that_raises_is_told_and_goes_on_later(
    name: str, part: str, error: type[BaseException], tmp_path: Path
) -> None:
    """A notebook or server survives what ends a kickoff; its next kickoff is no part of the dead one."""
    if error is RuntimeError and (part == "tool" or name == "hierarchical"):
        pytest.skip("an agent is told of an error in a tool, and goes on")
    expected = texts(build(name).start())
    with eventlog.open(tmp_path / "log.db") as log:
        dying = build(name, DyingWorld(part, 1 if "agent" in name or part == "tool" else 2, error))
        with pytest.raises(error):
            start(dying, log)
        DyingWorld.current = None

        assert log.state(RUN).status == STATUS[error]
        assert [run.status for run in log.runs()] == [STATUS[error]]
        assert (get_current_parent_id(), current_kickoff.get(), playing.get()) == (None, None, None)
        other = build("agent_kickoff")
        with log.run("other"):
            other.start()
        first = next(event for event in log.events("other") if event.type == "lite_agent_execution_started")
        assert (first.parent_event_id, first.path.count("/")) == (None, 1)

        done = [event.type for event in own(log.events(RUN))].count("llm_call_completed")
        again = build(name)
        assert texts(start(again, log)) == expected
        assert again.world.llm_calls == again.llm_calls - done
        assert log.state(RUN).status == "completed"
        assert log.status().failed == 0
