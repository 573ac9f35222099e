"""Nothing that a crew said is on the disk: crews full of canaries, then a search through the raw bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from crewai import Crew, Task
from crewai.flow.flow import Flow, start
from crewai.tools import tool

import eventlog
from eventlog.pipeline import Durability
from eventlog.testing import ScriptedLLM, final, tool_call
from tests.integration.sealing import KEY, found_in, on_disk
from tests.scenarios.memories import memory
from tests.scenarios.world import World

CANARIES = (
    *("quillrole", "quillgoal", "quillstory", "quilltask", "quillprompt", "quillexpected", "quillinput"),
    *("quilltoolname", "quillargument", "quillresult", "quillanswer", "quillstate", "quillcrew", "quillmemory"),
    *("quillown", "quillprojection", "quilldoc", "quilledit"),
)
"""One word for each place in which people say what nobody else shall read."""


@tool("quilltoolname")
def lookup(q: str) -> str:
    """Look it up in quilldoc."""
    return f"quillresult about {q}"


class Notes(Flow[dict[str, Any]]):
    """Keeps something in its state."""

    @start()
    def note(self) -> str:
        """Note it."""
        self.state["note"] = "quillstate"
        return "quillstate " * 100


@eventlog.projection("quill_words", version=1, initial=dict)
def words(found: dict[str, Any], event: eventlog.Event) -> dict[str, Any]:
    """A projection that keeps what was said."""
    return {**found, "said": f"quillprojection {event.payload.get('text', '')}"}


def answer(messages: Any, tools: Any) -> Any:
    """Use the tool once, then answer at length."""
    if "quillresult" in str(messages):
        return final(f"quillanswer {'and so on ' * 60}")
    return tool_call("quilltoolname", q="quillargument")


def secretive() -> Crew:
    """A crew each part of which says a canary."""
    world = World()
    agent = world.agent("quillrole", llm=ScriptedLLM(script=answer), tools=[lookup])
    agent.goal, agent.backstory = "quillgoal", "quillstory"
    text = f"quillprompt {{what}} {'in so many words ' * 30}"
    tasks = [Task(name="quilltask", description=text, expected_output="quillexpected", agent=agent)]
    remembered = memory(world)
    remembered.remember("quillmemory is what we knew")
    return Crew(name="quillcrew", agents=[agent], tasks=tasks, memory=remembered)


def files_of_a_life(path: Path, **options: Any) -> dict[str, bytes]:
    """Return all bytes that were on the disk while a log was used in every way: open, closed, compacted, archived."""
    with eventlog.open(path, snapshot_on=["*"], **options) as log:
        with log.run("a") as run:
            run.kickoff(secretive(), inputs={"what": "quillinput"})
            run.kickoff(Notes())
            run.append("own.note", {"text": "quillown", "more": "quillown " * 50})
        log.fork("a", branch="other", outputs={"quilltask": "quilledit"}, inputs={"what": "quilledit"})
        log.snapshot("a")
        log.flush()
        opened = on_disk(path.parent, "x*.db*")
        said = str([event.payload for event in log.events()])
        log.compact(0, archive=path.with_name("x-archive.db"))
        compacted = on_disk(path.parent, "x*.db*")

    assert found_in({"events": said.encode()}, ["quilltask", "quillown", "quillresult"])
    assert "x.db-wal" in opened
    assert {"x.db", "x-archive.db"} <= set(compacted)
    files = {"opened": opened, "compacted": compacted, "closed": on_disk(path.parent, "x*.db*")}
    return {f"{name} {when}": data for when, found in files.items() for name, data in found.items()}


@pytest.mark.parametrize("durability", ["commit", "batch"])
def test_no_word_of_an_encrypted_log_is_on_the_disk(tmp_path: Path, durability: Durability) -> None:
    """Searched: the file and its WAL while it is open, after it was compacted, its archive, all of it once closed."""
    files = files_of_a_life(tmp_path / "x.db", key=KEY, durability=durability)

    assert found_in(files, CANARIES) == set()


def test_the_search_finds_every_word_in_a_plain_log(tmp_path: Path) -> None:
    """The search above can fail: without a key all of them are there."""
    files = files_of_a_life(tmp_path / "x.db")

    assert {word for word, _ in found_in(files, CANARIES)} == {*CANARIES}


@pytest.mark.parametrize("key", [KEY, None])
def test_what_is_executed_again_is_not_on_the_disk_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    """A re-execution writes a log of its own into a temporary folder: encrypted as the one it is compared with."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: dict[str, bytes] = {}

    def told(_step: Any) -> None:
        for path in tmp_path.glob("eventlog-*/again.db*"):
            seen[path.name] = path.read_bytes()

    crew, again = secretive(), secretive()
    with eventlog.open(tmp_path / "x.db", key=key) as log:
        with log.run("a") as run:
            run.kickoff(crew, inputs={"what": "quillinput"})
        again.task_callback = told
        outcome = log.reexecute("a", again, inputs={"what": "quillinput"})

    assert outcome.events > 5
    assert any(name.endswith("-wal") for name in seen)
    assert bool(found_in(seen, CANARIES)) == (key is None)


def test_what_stays_in_clear_is_what_is_promised(tmp_path: Path) -> None:
    """Types, times, ids, names of runs and branches: ``runs`` and ``log`` of a stranger's tool show no more."""
    with eventlog.open(tmp_path / "x.db", key=KEY) as log:
        log.append("own.type_in_clear", {"a": 1}, run="run-in-clear", event_id="id-in-clear")
        log.fork("run-in-clear", branch="branch-in-clear")
    words_in_clear = ["own.type_in_clear", "run-in-clear", "branch-in-clear", "id-in-clear"]

    assert {word for word, _ in found_in(on_disk(tmp_path, "x.db"), words_in_clear)} == {*words_in_clear}
