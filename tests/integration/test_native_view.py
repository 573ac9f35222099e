"""``Crew.from_checkpoint`` and its kin restore from a log at any checkpoint."""

from __future__ import annotations

import gc
import json
import sqlite3
import weakref
from pathlib import Path
from typing import Any

import pytest
from crewai import Agent, Crew, Task
from crewai.flow.flow import Flow
from crewai.state.checkpoint_config import CheckpointConfig
from crewai.tools import BaseTool
from pydantic import BaseModel

import eventlog
from eventlog.native import LiveObjectMissingError, live, register
from eventlog.testing import ScriptedLLM, final
from eventlog.transfer.exports import export_lines
from eventlog.transfer.imports import import_file
from tests.integration.native import RUN, config, record, rows
from tests.scenarios import World

CANARY = "canary-4f6b2d90e1"


@pytest.mark.slow
def test_a_crew_goes_on_from_every_checkpoint_to_the_same_output(tmp_path: Path) -> None:
    """With a function tool and a model of the user's own; finished tasks are not run again."""
    db = tmp_path / "x.db"
    scenario, result = record(db, "sequential_react", snapshot_on=["*"])
    marks = rows(db)
    outcomes = []
    for row in marks:
        before = scenario.world.llm_calls
        crew = Crew.from_checkpoint(config(db, row))
        done = sum(task.output is not None for task in crew.tasks)
        again = crew.kickoff(inputs=scenario.inputs)
        outcomes.append((str(again) == str(result), scenario.world.llm_calls - before == 3 * (2 - done)))

    assert len(marks) > 30
    assert set(outcomes) == {(True, True)}
    subject: Any = scenario.subject
    assert (crew.tasks[0].tools or [])[0] is subject.tasks[0].tools[0]
    assert crew.agents[0].llm is subject.agents[0].llm


def test_the_rows_are_one_line_of_descent_with_one_entity_each(tmp_path: Path) -> None:
    """CrewAI's commands take the first entity they know, and follow parents."""
    db = tmp_path / "x.db"
    record(db, "sequential_react", snapshot_on=["task_started", "task_completed"])
    marks = rows(db)

    assert [row.data["trigger"] for row in marks] == ["task_started", "task_completed"] * 2
    assert [row.parent_id for row in marks] == [None, *(row.id for row in marks[:-1])]
    assert [row.data["parent_id"] for row in marks] == [row.parent_id for row in marks]
    assert {row.entity["entity_type"] for row in marks} == {"crew"}
    assert [sum(t["output"] is not None for t in row.entity["tasks"]) for row in marks] == [0, 1, 1, 2]
    assert len({row.id[:24] for row in marks}) == len(marks)
    assert marks[0].entity["agents"][0]["role"] == "Writer 0 of tea"
    assert marks[0].entity["tasks"][0]["checkpoint_original_description"] == "Do step 0 about {topic}"


@pytest.mark.parametrize(("name", "calls"), [("flow_linear", 2), ("flow_structured_state", 1), ("flow_with_crew", 2)])
def test_a_flow_goes_on_after_the_methods_that_are_finished(tmp_path: Path, name: str, calls: int) -> None:
    """Method results and the state after the last method come from the events."""
    db = tmp_path / "x.db"
    scenario, result = record(db, name)
    first = next(row for row in rows(db) if row.data["trigger"] == "method_execution_finished")
    before = scenario.world.llm_calls
    flow: Any = type(scenario.subject).from_checkpoint(config(db, first))  # type: ignore[union-attr]

    assert str(flow.kickoff(inputs=scenario.inputs)) == str(result)
    assert scenario.world.llm_calls - before == calls


def test_an_agent_on_its_own_is_restored(tmp_path: Path) -> None:
    """Its task is what the caller asks again."""
    db = tmp_path / "x.db"
    scenario, result = record(db, "agent_kickoff", snapshot_on=["lite_agent_execution_completed"])
    agent = Agent.from_checkpoint(config(db, rows(db)[-1]))

    assert str(agent.kickoff(scenario.inputs)) == str(result)


def test_a_kickoff_takes_a_checkpoint(tmp_path: Path) -> None:
    """``kickoff(from_checkpoint=…)`` is the same in one call."""
    db = tmp_path / "x.db"
    scenario, result = record(db, "sequential_react")
    before = scenario.world.llm_calls
    crew: Any = scenario.subject
    again = crew.kickoff(inputs=scenario.inputs, from_checkpoint=config(db, rows(db)[0], location=str(tmp_path / "cp")))

    assert str(again) == str(result)
    assert scenario.world.llm_calls - before == 3


def test_long_outputs_structured_state_and_context_come_back_whole(tmp_path: Path) -> None:
    """Texts that are stored once, in pieces or not, and a context that names one task."""
    long = "Long " * 2000 + "ä{}\"'\n"
    agent = World().agent(llm=ScriptedLLM(script=[final(long), final(long + "2"), final("end")]))
    tasks = [Task(description=f"Do {i}.", expected_output="x", agent=agent) for i in range(3)]
    tasks[2].context = [tasks[0]]
    with eventlog.open(tmp_path / "x.db") as log, log.run(RUN):
        Crew(agents=[agent], tasks=tasks).kickoff()
    marks = rows(tmp_path / "x.db")
    crew = Crew.from_checkpoint(config(tmp_path / "x.db", marks[1]))

    assert [t["output"] and t["output"]["raw"] for t in marks[1].entity["tasks"]] == [long.strip(), long + "2", None]
    assert [c.output.raw for c in crew.tasks[2].context] == [long.strip()]  # type: ignore[union-attr]


def test_no_secret_is_in_a_checkpoint(tmp_path: Path) -> None:
    """CrewAI writes the keys of models and tools in clear; we have none in the file."""

    class Search(BaseTool):
        name: str = "search"
        description: str = "Searches."
        api_key: str = CANARY

        def _run(self, q: str) -> str:
            return q

    llm = ScriptedLLM(script=[final("done")], api_key=CANARY)
    agent = World().agent(llm=llm, tools=[Search()])
    with eventlog.open(tmp_path / "x.db") as log, log.run(RUN):
        Crew(agents=[agent], tasks=[Task(description="Do.", expected_output="x", agent=agent)]).kickoff()
    crew: Any = Crew.from_checkpoint(config(tmp_path / "x.db", rows(tmp_path / "x.db")[0]))

    assert not any(CANARY.encode() in path.read_bytes() for path in tmp_path.glob("x.db*"))
    assert crew.agents[0].tools[0].api_key == CANARY


def test_a_tool_this_process_does_not_have_is_a_clear_error(tmp_path: Path) -> None:
    """A name in a file is a key: nothing is imported or made for it, unless the user says which object it is."""
    db = tmp_path / "x.db"
    scenario, _ = record(db, "sequential_react")
    subject: Any = scenario.subject
    tool = subject.tasks[0].tools[0]
    document = json.dumps(rows(db)[0].data)
    ticket = json.loads(document)["entities"][0]["tasks"][0]["tools"][0]["live"]["ticket"]
    file = tmp_path / "one.json"

    file.write_text(document.replace(ticket, "lost").replace("World.lookup", "World.other"))
    with pytest.raises(LiveObjectMissingError, match="lookup"):
        Crew.from_checkpoint(CheckpointConfig(restore_from=file))
    register(tool)
    file.write_text(document.replace(ticket, "lost"))
    again: Any = Crew.from_checkpoint(CheckpointConfig(restore_from=file))
    assert again.tasks[0].tools[0] is tool


def test_what_nobody_needs_any_more_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many crews, the objects of the last ones are kept for a restore; of the others, what the user keeps."""
    monkeypatch.setattr(live, "KEPT_MAX", 2)
    monkeypatch.setattr(live, "seen", live.Seen())
    db, kept, left = tmp_path / "x.db", [], []
    with eventlog.open(db) as log, log.run(RUN):
        for number in range(6):
            llm = ScriptedLLM(script=[final("done")])
            agent = Agent(role="Cook", goal="g", backstory="b", llm=llm)
            crew = Crew(agents=[agent], tasks=[Task(description="Do.", expected_output="x", agent=agent)])
            crew.kickoff()
            left.append(weakref.ref(llm))
            kept += [llm] if number < 2 else []
    del llm, agent, crew
    gc.collect()

    assert [one() is not None for one in left] == [True, True, False, False, True, True]
    for number, llm in enumerate(kept):
        again: Any = Crew.from_checkpoint(config(db, rows(db)[number]))
        assert again.agents[0].llm is llm


def test_a_row_stays_light_however_long_the_log(tmp_path: Path) -> None:
    """A crew of two tasks whose second calls a model 200 times: the last row is hardly longer than the first."""
    db = tmp_path / "x.db"
    record(db, "sequential_react", snapshot_on=["*"])
    marks = rows(db)

    assert max(row.chars for row in marks) < marks[0].chars + 3000
    assert all(len(row.data["event_record"]["nodes"]) <= 3 for row in marks)


def test_the_latest_checkpoint_and_one_by_id_are_found_by_an_index(tmp_path: Path) -> None:
    """``resume`` and ``info`` ask for one row: the others must not be computed."""
    with eventlog.open(tmp_path / "x.db"):
        pass
    connection = sqlite3.connect(tmp_path / "x.db")
    plans = [
        connection.execute(f"EXPLAIN QUERY PLAN SELECT id, created_at, json(data) FROM checkpoints {rest}").fetchall()
        for rest in ("ORDER BY rowid DESC LIMIT 1", "WHERE id = 'x'")
    ]
    top = [[row[3] for row in plan if row[1] == 0] for plan in plans]
    connection.close()

    assert top[0][0] == "SCAN m"
    assert not any("TEMP B-TREE" in step for step in top[0])
    assert top[1][0].startswith("SEARCH m USING INDEX")


def test_pruning_hides_and_changes_no_event(tmp_path: Path) -> None:
    """And a snapshot made by hand at a pruned cursor shows it again."""
    db = tmp_path / "x.db"
    record(db, "sequential_react")
    connection = sqlite3.connect(db)
    count = "SELECT count(*) FROM events"
    events, (first, last) = connection.execute(count).fetchone(), rows(db)
    connection.execute(
        "DELETE FROM checkpoints WHERE rowid NOT IN (SELECT rowid FROM checkpoints ORDER BY rowid DESC LIMIT 1)"
    )
    connection.commit()

    assert [row.id for row in rows(db)] == [last.id]
    assert connection.execute(count).fetchone() == events
    connection.close()
    with eventlog.open(db) as log:
        log.snapshot(RUN, to=first.id)
    assert {row.id for row in rows(db)} == {first.id, last.id}


def test_the_index_knows_the_classes_of_its_events() -> None:
    """The event types are interned under fixed ids when a file is made: with the names capture gives them."""
    from crewai.events.types import flow_events, task_events

    from eventlog.checkpoints import LANDMARKS
    from eventlog.references import class_name

    classes = (task_events.TaskCompletedEvent, flow_events.MethodExecutionFinishedEvent, task_events.TaskStartedEvent)
    assert {cls.model_fields["type"].default: class_name(cls) for cls in classes}.items() <= LANDMARKS.items()


def test_a_fork_shows_its_edits_and_its_inherited_line(tmp_path: Path) -> None:
    """An edited output is the output there, and what was derived from it is not done."""
    db = tmp_path / "x.db"
    scenario, _ = record(db, "sequential_react")
    with eventlog.open(db) as log:
        log.fork(RUN, branch="exp", outputs={"step 0": "Edited."})
        log.snapshot(RUN, branch="exp")
    *_, before, row = rows(db)

    assert (row.branch, row.parent_id) == ("exp", before.id)
    assert [t["output"] and t["output"]["raw"] for t in row.entity["tasks"]] == ["Edited.", None]
    crew = Crew.from_checkpoint(config(db, row))
    crew.kickoff(inputs=scenario.inputs)
    assert crew.tasks[0].output.raw == "Edited."  # type: ignore[union-attr]


def test_flows_without_their_class_give_the_last_result(tmp_path: Path) -> None:
    """What ``crewai checkpoint resume`` does with a flow, ours as CrewAI's own: it has no methods to run."""
    db = tmp_path / "x.db"
    record(db, "flow_linear")
    flow: Any = Flow.from_checkpoint(config(db, rows(db)[0]))

    assert [entry["method"] for entry in flow._method_outputs] == ["first"]


def test_an_imported_log_restores_like_the_one_it_came_from(tmp_path: Path) -> None:
    """The entity is kept whole through an export, keys that begin with a dollar included."""

    class Nested(BaseModel):
        inner: Inner

    class Find(BaseTool):
        name: str = "find"
        description: str = "Finds."
        args_schema: type[BaseModel] = Nested

        def _run(self, inner: Any) -> str:
            return str(inner)

    find = Find()
    Find.__qualname__ = "Find"  # as one at the top of a module: CrewAI writes it down with its schema
    agent = World().agent(llm=ScriptedLLM(script=[final("done " * 200)]), tools=[find])
    with eventlog.open(tmp_path / "x.db") as log, log.run(RUN):
        Crew(agents=[agent], tasks=[Task(description="Do it. " * 100, expected_output="x", agent=agent)]).kickoff()
    lines = [json.loads(line) for line in export_file(tmp_path / "x.db", tmp_path / "x.jsonl")]
    with eventlog.open(tmp_path / "y.db") as log:
        import_file(log, tmp_path / "x.jsonl")
        log.snapshot(RUN, to=next(e.seq for e in log.events(RUN, types=["task_completed"])))
    (old,), (new,) = rows(tmp_path / "x.db"), rows(tmp_path / "y.db")

    assert "$defs" in json.dumps(old.entity)
    assert new.entity == old.entity
    assert len(lines) > 5


class Inner(BaseModel):
    """So that the schema refers to a definition."""

    x: int = 0


def export_file(db: Path, target: Path) -> list[bytes]:
    """Export a log and return its lines."""
    with eventlog.open(db, readonly=True) as log:
        lines = list(export_lines(log, [RUN]))
    target.write_bytes(b"".join(lines))
    return lines
