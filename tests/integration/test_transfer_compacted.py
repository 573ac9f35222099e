"""A compacted run travels whole: from its base on, the other log answers as the first did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eventlog
from eventlog import CompactedError
from eventlog.replay.rebuild import rebuild_state
from eventlog.transfer.check_bases import RunConflictError
from eventlog.transfer.imports import import_file
from eventlog.transfer.lines import ImportFileError
from tests.cli_world import Cli
from tests.integration import compacting, resuming
from tests.integration.test_resume_fork import TOPIC, Program
from tests.integration.transferring import (
    exported,
    said,
    standing,
    states,
    told,
    transferred,
    unproven,
)
from tests.property.test_compact_laws import CUTS, cuts_of, renamed
from tests.property.test_snapshot_laws import append, new_log
from tests.scenarios import build
from tests.unit.histories import finished_crew
from tests.verifying import problems


def record(path: Path, **options: Any) -> Any:
    """Record the crew of four tasks to its end, after something else; returns its result."""
    with eventlog.open(path, **options) as log:
        log.append("before.all", {"n": 1}, run="other")
        return log.run("r").kickoff(Program().crew, inputs=TOPIC)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[eventlog.Log]:
    """A log with one finished crew in it."""
    record(tmp_path / "source.db")
    with eventlog.open(tmp_path / "source.db") as log:
        yield log


@pytest.fixture
def target(tmp_path: Path) -> Iterator[eventlog.Log]:
    """Another log, in which other things happened before."""
    with eventlog.open(tmp_path / "target.db") as log:
        for number in range(7):
            log.append("something.else", {"n": number}, run="x")
        yield log


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_every_state_from_the_base_on_is_the_same(
    kept: int, source: eventlog.Log, target: eventlog.Log, tmp_path: Path
) -> None:
    """States, events and the index of executions; what is gone is gone there, too."""
    source.compact(kept)
    transferred(source, target, tmp_path / "x.jsonl")
    cut = cuts_of(target)["main"]

    assert states(target) == states(source)
    assert said(list(target.events("r"))) == said(list(source.events("r")))
    assert standing(target) == standing(source)
    assert [run.status for run in target.runs()] == ["completed"] * 2
    with pytest.raises(CompactedError, match=str(cut)):
        target.state("r", to=cut - 1)
    target.close()
    assert unproven(tmp_path / "target.db") == []


def test_a_finished_run_returns_its_result_there(tmp_path: Path) -> None:
    """Nothing is asked, and the tokens of calls whose events are gone are in the sums."""
    first = record(tmp_path / "source.db")
    with eventlog.open(tmp_path / "source.db") as source, eventlog.open(tmp_path / "target.db") as target:
        source.compact(0)
        transferred(source, target, tmp_path / "x.jsonl")
        program = Program()
        again = target.run("r").kickoff(program.crew, inputs=TOPIC)

    assert program.asked == []
    assert (again.raw, again.token_usage) == (first.raw, first.token_usage)


SHAPES = ("sequential_native", "flow_linear", "hierarchical", "agent_kickoff")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SHAPES)
def test_an_interrupted_run_goes_on_there(name: str, tmp_path: Path) -> None:
    """Cut off, compacted, taken elsewhere: fresh objects finish it as if nothing had happened."""
    whole = resuming.record_whole(name, tmp_path)
    found = []
    for seq in resuming.cuts(whole, 4):
        left = resuming.upto(whole, seq)
        part = resuming.cut(whole.file, seq, tmp_path / f"part-{seq}.db")
        compacting.compacted(part)
        with eventlog.open(part) as source, eventlog.open(tmp_path / f"new-{seq}.db") as target:
            target.append("something.else", {}, run="x")
            transferred(source, target, tmp_path / "x.jsonl")
        scenario = build(name)
        scenario.world.go_on_after(resuming.happened(left))
        resumed = resuming.perform(scenario, tmp_path / f"new-{seq}.db")
        lines = resuming.problems(whole, left, resumed)
        found += [f"cut after {seq}: {line}" for line in lines if not line.startswith("event ")]

    assert found == []


def test_forks_with_bases_of_their_own_travel_along(source: eventlog.Log, target: eventlog.Log, tmp_path: Path) -> None:
    """What a fork reads of its parent is retained for it there as here, also when it began below the parent's base."""
    middle = next(e.seq for e in source.events("r") if e.type == "task_completed")
    source.fork("r", to=middle, branch="exp")
    source.compact(0)
    source.fork("r", branch="late", outputs={"t0": "Tea is blue."})
    transferred(source, target, tmp_path / "x.jsonl")
    found = []
    for log in (source, target):
        programs = {branch: Program() for branch in ("exp", "late")}
        raws = [log.run("r", branch=b).kickoff(p.crew, inputs=TOPIC).raw for b, p in programs.items()]
        tasks = {b: [(t.name, t.status, t.output) for t in log.state("r", branch=b).tasks] for b in programs}
        found.append((raws, [p.asked for p in programs.values()], tasks))

    assert [(b.branch, b.parent) for b in target.branches("r")] == [("main", None), ("exp", "main"), ("late", "main")]
    assert found[1] == found[0]
    assert states(target) == states(source)
    target.close()
    assert unproven(tmp_path / "target.db") == []


def test_one_branch_travels_alone(source: eventlog.Log, target: eventlog.Log, tmp_path: Path) -> None:
    """With a base of its own it needs no parent: what was retained for it is its own there; main stays empty."""
    middle = next(e.seq for e in source.events("r") if e.type == "task_completed")
    source.fork("r", to=middle, branch="exp")
    source.compact(0)
    transferred(source, target, tmp_path / "x.jsonl", branch="exp")
    program = Program()
    result = target.run("r", branch="exp").kickoff(program.crew, inputs=TOPIC)

    assert told(target, "exp", cuts_of(target)["exp"]) == told(source, "exp")
    assert list(target.events("r")) == []
    assert program.asked == ["B", "C", "D"]
    assert result.raw == source.run("r").kickoff(Program().crew, inputs=TOPIC).raw


def test_a_lineage_up_to_a_cursor_travels(source: eventlog.Log, target: eventlog.Log, tmp_path: Path) -> None:
    """From the base on; a cursor before it is refused, and the rest fits on later."""
    source.compact(3)
    cut = cuts_of(source)["main"]
    whole = len(exported(source, tmp_path / "whole.jsonl")) - 1
    (first,) = transferred(source, target, tmp_path / "part.jsonl", to=cut + 10)

    assert states(target) == states(source)[: len(states(target))]
    assert standing(target) == [(path, "running") for path, _ in standing(source)][: len(standing(target))]
    with pytest.raises(CompactedError):
        exported(source, tmp_path / "never.jsonl", to=cut - 1)
    (second,) = import_file(target, tmp_path / "whole.jsonl")
    assert (first.new, second.new) == (first.events, whole - first.events)
    assert states(target) == states(source)
    assert standing(target) == standing(source)


def rows(log: eventlog.Log) -> list[Any]:
    """Return everything an import may touch."""
    tables = ("events", "contents", "bases", "retained", "branches", "executions", "runs")
    return [log.reader.query(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]


def test_importing_twice_is_importing_once(source: eventlog.Log, target: eventlog.Log, tmp_path: Path) -> None:
    """Nothing is appended, no base is made anew."""
    source.compact(1)
    transferred(source, target, tmp_path / "x.jsonl")
    before = rows(target)
    (result,) = import_file(target, tmp_path / "x.jsonl")

    assert result.new == 0
    assert rows(target) == before


@pytest.mark.parametrize(("here", "there"), [(1, 3), (3, 1), (None, 1), (1, None)])
def test_a_run_that_was_compacted_otherwise_is_refused(
    here: int | None, there: int | None, source: eventlog.Log, target: eventlog.Log, tmp_path: Path
) -> None:
    """Two bases in one would be neither's state. ``None``: not compacted. Another name is the way out."""
    kept = sorted((count for count in (here, there) if count is not None), reverse=True)
    for count in ([None] if None in (here, there) else []) + kept:
        if count is not None:
            source.compact(count)
        exported(source, tmp_path / f"{count}.jsonl")
    import_file(target, tmp_path / f"{here}.jsonl")
    before = rows(target)
    with pytest.raises(RunConflictError, match="compacted"):
        import_file(target, tmp_path / f"{there}.jsonl")

    assert rows(target) == before
    import_file(target, tmp_path / f"{there}.jsonl", rename="r2")
    assert target.state("r2").tasks[0].output == target.state("r").tasks[0].output
    assert target.state("r2").run == "r2"


def test_an_uncompacted_run_is_written_as_ever(source: eventlog.Log, tmp_path: Path) -> None:
    """Version 1, without a word of bases: older versions of this library read it."""
    lines = exported(source, tmp_path / "x.jsonl")

    assert lines[0]["version"] == 1
    assert not any("retained_for" in line or "base" in line for line in lines)


def test_large_values_of_the_state_become_contents(tmp_path: Path) -> None:
    """Not a second copy in each state; a later compaction does not collect them."""
    text = "a long answer " * 100
    with eventlog.open(tmp_path / "source.db") as source, eventlog.open(tmp_path / "target.db") as target:
        with source.run("r") as run:
            run.kickoff(Program().crew, inputs={"topic": text, "year": 1})
        source.compact(0)
        transferred(source, target, tmp_path / "x.jsonl")
        target.append("later.on", {}, run="x")
        target.compact(0, run="x")
        base = target.reader.query("SELECT state FROM bases")[0][0]

        assert text not in base
        assert '"$content"' in base
        assert told(target)["inputs"]["topic"] == text


def test_secrets_in_the_state_do_not_reach_the_disk(
    source: eventlog.Log, target: eventlog.Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file made by hand passes the same redaction as one of ours."""
    canary = "env-canary-0123456789"
    monkeypatch.setenv("SOME_API_KEY", canary)
    source.compact(0)
    lines = exported(source, tmp_path / "x.jsonl")
    state = lines[0]["runs"][0]["branches"][0]["base"]["state"]
    state["tasks"][0].update(output=f"the key is {canary}", name=canary)
    state["user_types"][canary] = 1
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    import_file(target, tmp_path / "x.jsonl")
    target.close()

    assert not any(canary.encode() in path.read_bytes() for path in tmp_path.glob("target.db*"))


# -- wrong files ---------------------------------------------------------------------------------------


def base_of(lines: list[Any]) -> Any:
    """Return the base in a header."""
    return lines[0]["runs"][0]["branches"][0]["base"]


def drop_cut(lines: list[Any]) -> None:
    """Leave out the event at the base."""
    lines[:] = [line for line in lines if line.get("event_id") != base_of(lines)["event_id"]]


def drop_all(lines: list[Any]) -> None:
    """Leave out all events."""
    del lines[1:]


def swap(lines: list[Any]) -> None:
    """Put two events into another order."""
    lines[1], lines[2] = lines[2], lines[1]


def add_fork(lines: list[Any]) -> None:
    """Let a branch begin below the base of its parent."""
    branch = {"branch": "b", "parent": "main", "fork_event_id": lines[2]["event_id"]}
    lines[0]["runs"][0]["branches"].append(branch)


WRONG: dict[str, tuple[Any, str]] = {
    "version": (lambda lines: lines[0].update(version=1), "line 1: .*version 1 has no bases"),
    "cut missing": (drop_cut, "base of branch 'main' is missing"),
    "events missing": (drop_all, "base of branch 'main' is missing"),
    "order": (swap, "line 3: seq .* after seq"),
    "unreachable": (lambda lines: lines[1].pop("retained_for"), "line 2: .*no branch retains it"),
    "retained for nobody": (lambda lines: lines[1].update(retained_for=["b"]), "line 2: .*has no base"),
    "retained above": (lambda lines: lines[-1].update(retained_for=["main"]), "above its base"),
    "cursor": (lambda lines: base_of(lines)["state"].update(cursor=3), "line 1: .*state is that at 3"),
    "state": (lambda lines: base_of(lines)["state"].update(tasks=7), "line 1: .*tasks"),
    "state of nothing": (lambda lines: base_of(lines).update(state={}), "line 1: .*run"),
    "huge number": (lambda lines: base_of(lines).update(events=2**80), "line 1: .*events"),
    "huge seq": (lambda lines: base_of(lines).update(seq=2**63), "line 1: .*seq"),
    "status": (lambda lines: base_of(lines)["executions"][0].update(status="?"), "line 1: .*executions"),
    "fork below the base": (add_fork, "line 3: a branch begins here, below the base"),
    "no such parent": (lambda lines: lines[0]["runs"][0]["branches"][0].update(parent="x"), "line 1: .*parent 'x'"),
}
"""What is wrong with a file, and what is said of it."""


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("there", [False, True])
def test_a_file_that_tells_no_whole_run_is_refused(
    wrong: str, there: bool, source: eventlog.Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line is named, and nothing is imported."""
    damage, message = WRONG[wrong]
    source.compact(1)
    lines = exported(source, tmp_path / "x.jsonl")
    damage(lines)
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    other = Cli(tmp_path / "other.db", capsys)
    if there:
        eventlog.open(other.db).close()

    result = other("import", tmp_path / "x.jsonl")

    assert result.code == 1
    assert len(result.err.splitlines()) == 2
    with eventlog.open(tmp_path / "another.db") as log, pytest.raises(ImportFileError, match=message):
        import_file(log, tmp_path / "x.jsonl")
    assert other.db.exists() == there
    if there:
        assert json.loads(other("runs", "--json").out) == []


# -- any history -----------------------------------------------------------------------------------------


def grow(log: eventlog.Log, data: st.DataObject) -> None:
    """Append crews, whole or broken off, to branches that are forked anywhere and compacted now and then."""
    names, history = ["main"], finished_crew().events
    append(log, history)
    for number in range(data.draw(st.integers(1, 4))):
        history = renamed(history)
        branch = data.draw(st.sampled_from(names))
        oldest, last = cuts_of(log).get(branch, 1), max(b.last_seq for b in log.branches("r"))
        with suppress(CompactedError):
            log.fork("r", parent=branch, branch=f"b{number}", to=data.draw(st.integers(oldest, last)))
            names.append(f"b{number}")
        append(log, history[: data.draw(st.integers(1, len(history)))], branch=data.draw(st.sampled_from(names)))
        if data.draw(st.booleans()):
            log.compact(data.draw(CUTS), run="r")


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_compacted_history_travels_whole(data: st.DataObject) -> None:
    """Whatever the branches and their bases: the states from each base on, also after a second trip."""
    with new_log(5, 0) as log, new_log(5, 0) as other, new_log(5, 0) as third:
        other.append("x.y", {}, run="x")
        grow(log, data)
        log.compact(data.draw(CUTS), run="r")
        file = log.path.parent / "x.jsonl"
        transferred(log, other, file)
        made = {info.branch for info in other.branches("r")}
        first = {branch: states(log, branch) for branch in made}
        transferred(other, third, file)

        assert {info.branch for info in log.branches("r") if info.events or info.branch in cuts_of(log)} <= made
        assert {branch: states(other, branch) for branch in made} == first
        assert {branch: states(third, branch) for branch in made} == first
        assert {branch: standing(other, branch) for branch in made} == {b: standing(log, b) for b in made}
        assert [*problems(other.path), *unproven(other.path)] == []
        for branch, seq in cuts_of(other).items():
            with pytest.raises(CompactedError):
                rebuild_state(other.reader, "r", branch, seq - 1)


# -- diff --------------------------------------------------------------------------------------------------


def test_diff_compares_from_the_greater_base_on(
    source: eventlog.Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy that was compacted further tells the same; what only one of both still has is no difference."""
    exported(source, tmp_path / "whole.jsonl")
    source.compact(3)
    exported(source, tmp_path / "three.jsonl")
    source.compact(1)
    for name, file in (("whole", "whole.jsonl"), ("three", "three.jsonl")):
        import_file(source, tmp_path / file, rename=name)
    source.close()
    cli = Cli(tmp_path / "source.db", capsys)
    found = {pair: json.loads(cli("diff", *pair, "--json").out) for pair in (("r", "whole"), ("three", "r"))}
    shown = cli("diff", "r", "whole")

    assert [(f["equal"], f["first_event"]) for f in found.values()] == [(True, None)] * 2
    assert all(document["compared_after"] > 0 for document in found.values())
    assert (shown.code, "equal" in shown.out, "after the first" in shown.out) == (0, True, True)


def test_diff_still_sees_what_differs_after_the_base(
    source: eventlog.Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fork that went on otherwise is different, whatever was compacted before."""
    source.fork("r", branch="exp")
    source.compact(1)
    source.append("something.new", {"n": 1}, run="r", branch="exp")
    source.close()
    result = Cli(tmp_path / "source.db", capsys)("diff", "r", "r/exp", "--json")

    assert result.code == 3
    assert json.loads(result.out)["first_event"]["right"]["type"] == "something.new"
