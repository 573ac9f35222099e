"""Logs that earlier versions wrote say today what they said then, and can still be gone on with."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

import eventlog
from eventlog.schema import FORMAT
from eventlog.transfer.exports import export_lines
from eventlog.transfer.imports import import_file
from tests.golden.expectations import FOLDER, cursors_of, differences, expected, names, observe, versions
from tests.golden.programs import PROGRAMS, STEPS, World, go_on, pipeline
from tests.verifying import problems

RUN = "golden"
LOGS = [(version, name) for version in versions() for name in names(version)]
KICKED_OFF = [(version, name) for version, name in LOGS if expected(version, name)["program"]]
BRANCHES = [(version, name, branch) for version, name in KICKED_OFF for branch in expected(version, name)["outcomes"]]
FINISHED = [
    (version, name, branch)
    for version, name, branch in BRANCHES
    if expected(version, name)["heads"][RUN][branch]["status"] == "completed"
]

PIPELINES = [(version, name) for version, name in LOGS if name.startswith("pipeline")]

every_log = pytest.mark.parametrize(("version", "name"), LOGS)


@pytest.fixture
def file(version: str, name: str, tmp_path: Path) -> Path:
    """A copy of a log for this test alone."""
    return Path(shutil.copyfile(FOLDER / version / f"{name}.db", tmp_path / "golden.db"))


def changes(log: eventlog.Log, version: str, name: str) -> list[str]:
    """Return in what a log is not what it was when it was written."""
    before = expected(version, name)
    now = observe(log, cursors_of(before))
    return list(differences({key: before[key] for key in now if key in before}, now))


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_present_format_has_its_logs() -> None:
    """Who makes a new format writes its logs: ``python -m tests.golden.generate``."""
    kept = {*names("v1")}

    assert f"v{FORMAT}" in versions()
    assert all(kept <= {*names(version)} for version in versions())


@every_log
def test_a_log_of_an_earlier_version_is_read_as_it_is(file: Path, version: str, name: str) -> None:
    """Every state at every kept cursor, the lists of runs, branches and executions, and not a byte is changed."""
    before = checksum(file)

    with eventlog.open(file, readonly=True) as log:
        found = changes(log, version, name)

    assert found == []
    assert checksum(file) == before


@every_log
def test_a_log_of_an_earlier_version_says_the_same_after_it_was_opened_for_writing(
    file: Path, version: str, name: str
) -> None:
    """A file is brought to the present format once, and stays the same log; its copy in ``tests`` is not touched."""
    with eventlog.open(file) as log:
        while_open = changes(log, version, name)
    with eventlog.open(file, readonly=True) as log:
        afterwards = changes(log, version, name)

    assert while_open == []
    assert afterwards == []
    assert list(problems(file)) == []


@every_log
def test_a_log_of_an_earlier_version_can_be_appended_to(file: Path, version: str, name: str) -> None:
    """What comes after it has the next seq, and what was there stays."""
    count = expected(version, name)["events"]

    with eventlog.open(file) as log:
        seq = log.append("note.new", {"n": 1}, run=RUN)
        again = log.append("note.again", run=RUN, event_id="order-17")

    assert seq == count + 1
    assert again == (2 if name == "notes" else count + 2)
    assert list(problems(file)) == []


@every_log
def test_a_log_of_an_earlier_version_is_exported_and_imported(
    file: Path, version: str, name: str, tmp_path: Path
) -> None:
    """All there is goes through the lines; a new log gives the events the same seqs, as there is one run in each."""
    lines = tmp_path / "lines.jsonl"
    with eventlog.open(file, readonly=True) as log:
        lines.write_bytes(b"".join(export_lines(log, None)))

    with eventlog.open(tmp_path / "new.db") as log:
        import_file(log, lines)
        found = changes(log, version, name)

    assert found == []


@pytest.mark.parametrize(("version", "name", "branch"), FINISHED)
def test_a_finished_run_of_an_earlier_version_is_executed_again(
    file: Path, version: str, name: str, branch: str
) -> None:
    """The same program does the same from the record alone: every request of it is found there."""
    world = World()
    program = PROGRAMS[expected(version, name)["program"]](world)

    with eventlog.open(file, readonly=True) as log:
        result = log.run(RUN, branch=branch).reexecute(program.entity, program.inputs)

    assert result, str(result)
    assert text_of(result.output) == expected(version, name)["outcomes"][branch]["text"]
    assert (world.calls, world.tool_runs, world.questions) == (0, [], [])


@pytest.mark.parametrize(("version", "name", "branch"), BRANCHES)
def test_a_run_of_an_earlier_version_is_gone_on_with(file: Path, version: str, name: str, branch: str) -> None:
    """A finished one returns its result, a killed one, a waiting one and a fork end as they would have ended then."""
    world = World()
    program = PROGRAMS[expected(version, name)["program"]](world)

    with eventlog.open(file) as log:
        with log.run(RUN, branch=branch) as run:
            result = go_on(run, program)
        status, failed = log.state(RUN, branch=branch).status, log.status().failed

    assert (status, failed) == ("completed", 0)
    assert expected(version, name)["outcomes"][branch] == {
        "text": text_of(result),
        "calls": world.calls,
        "tool_runs": len(world.tool_runs),
        "questions": len(world.questions),
    }
    assert list(problems(file)) == []


@pytest.mark.parametrize(("version", "name"), PIPELINES)
def test_a_pipeline_of_an_earlier_version_is_gone_on_with(file: Path, version: str, name: str) -> None:
    """A finished one gives its results, a killed one goes on in the middle of its step, as they would have then."""
    world = World()
    with eventlog.open(file) as log, log.run(RUN, items=STEPS) as run:
        texts = pipeline(run, world)

    assert expected(version, name)["outcomes"]["pipeline"] == {
        "texts": texts, "calls": world.calls, "tool_runs": len(world.tool_runs),
    }  # fmt: skip
    assert list(problems(file)) == []


def text_of(result: Any) -> str:
    """Return the text of whatever came out."""
    return str(getattr(result, "raw", result))


# -- the tests can fail ------------------------------------------------------------------------------


def test_a_difference_is_noticed() -> None:
    """More may be told than then, but nothing else and nothing less."""
    before = {"a": [{"b": 1, "c": None}], "d": "x"}

    assert list(differences(before, {"a": [{"b": 1, "c": None, "new": 2}], "d": "x", "e": 3})) == []
    assert list(differences(before, {"a": [{"b": 2, "c": None}], "d": "x"})) == [".a[0].b: 2, was 1"]
    assert list(differences(before, {"a": [], "d": "x"})) == [".a: [], was [{'b': 1, 'c': None}]"]
    assert list(differences(before, {"a": [{"b": 1}], "d": "x"})) == [".a[0].c: gone, was None"]


def test_another_fold_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that counts one event too many is another state, at every cursor."""
    file = Path(shutil.copyfile(FOLDER / "v1" / "crew.db", tmp_path / "golden.db"))
    state = eventlog.Log.state

    def wrong(self: eventlog.Log, *args: Any, **kwargs: Any) -> Any:
        found = state(self, *args, **kwargs)
        found.event_count += 1
        return found

    monkeypatch.setattr(eventlog.Log, "state", wrong)

    with eventlog.open(file, readonly=True) as log:
        found = changes(log, "v1", "crew")
    assert len(found) == len(expected("v1", "crew")["states"][RUN]["main"]) + 1
