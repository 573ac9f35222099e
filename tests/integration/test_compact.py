"""Compaction of real runs: what goes, what stays, and that everything that is left answers as before."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import eventlog
from eventlog import CompactedError
from eventlog.compaction import sweep as sweeping
from eventlog.replay import rebuild, snapshots
from eventlog.submit import compose_event
from tests.integration.test_resume_fork import TOPIC, Program


def record(path: Path, **options: Any) -> Any:
    """Record the crew of four tasks to its end; returns its result."""
    with eventlog.open(path, **options) as log:
        return log.run("r").kickoff(Program().crew, inputs=TOPIC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A log with one finished crew in it."""
    record(tmp_path / "log.db")
    return tmp_path / "log.db"


@pytest.fixture
def log(file: Path) -> Iterator[eventlog.Log]:
    """The same, open."""
    with eventlog.open(file) as opened:
        yield opened


def files_of(path: Path) -> dict[str, bytes]:
    """Return the bytes of a log and its neighbours."""
    return {name.name: name.read_bytes() for name in path.parent.glob(path.name + "*") if name.suffix != ".db-shm"}


def test_the_newest_checkpoints_and_what_follows_stay(log: eventlog.Log) -> None:
    """Four tasks make four checkpoints; of two that are kept the older is the new beginning."""
    marks = [row[0] for row in log.reader.query("SELECT seq FROM snapshots WHERE kind = 'checkpoint' ORDER BY seq")]
    before = {seq: log.state("r", to=seq) for seq in range(marks[-2], log.state("r").cursor + 1)}
    report = log.compact(2)
    kept = log.reader.query("SELECT seq FROM snapshots WHERE kind = 'checkpoint' ORDER BY seq")

    assert [branch.cut for branch in report.branches] == [marks[-2]]
    assert [row[0] for row in kept] == marks[-2:]
    assert {seq: log.state("r", to=seq) for seq in before} == before
    assert [event.seq for event in log.events("r")] == list(range(marks[-2] + 1, log.state("r").cursor + 1))
    assert report.events_after < report.events_before
    assert report.contents_after < report.contents_before


ASKED: dict[str, Callable[[eventlog.Log, int], Any]] = {
    "state": lambda log, cut: log.state("r", to=cut - 1),
    "state long ago": lambda log, _: log.state("r", to=2),
    "events": lambda log, _: list(log.events("r", after=2)),
    "fork": lambda log, cut: log.fork("r", to=cut - 1),
    "snapshot": lambda log, cut: log.snapshot("r", to=cut - 1),
}
"""What can be asked about a point before the base."""


@pytest.mark.parametrize("ask", ASKED)
def test_what_is_gone_is_refused_with_the_oldest_cursor(ask: str, log: eventlog.Log) -> None:
    """Nobody gets a wrong answer, and everybody learns where replaying can begin."""
    cut = log.compact(1).branches[0].cut
    with pytest.raises(CompactedError, match=str(cut)) as caught:
        ASKED[ask](log, cut)

    assert (caught.value.run, caught.value.branch, caught.value.oldest) == ("r", "main", cut)


def test_a_finished_run_returns_its_recorded_result(file: Path) -> None:
    """Nothing is asked again, and the tokens of calls whose events are gone are in the sums."""
    first = record(file)
    with eventlog.open(file) as log:
        report = log.compact(0)
        program = Program()
        with log.run("r") as run:
            again = run.kickoff(program.crew, inputs=TOPIC)

    assert report.branches[0].dropped > report.branches[0].retained
    assert program.asked == []
    assert (again.raw, again.token_usage) == (first.raw, first.token_usage)


def test_a_fork_of_a_compacted_run_is_the_fork_of_the_whole_one(tmp_path: Path) -> None:
    """Same text, same tokens, same questions: what was derived from the edit, nothing else."""
    found = []
    for name in ("whole.db", "compacted.db"):
        record(tmp_path / name)
        with eventlog.open(tmp_path / name) as log:
            if name == "compacted.db":
                log.compact(0)
            log.fork("r", branch="exp", outputs={"t0": "Tea is blue."})
            program = Program()
            result = log.run("r", branch="exp").kickoff(program.crew, inputs=TOPIC)
            found.append(
                (result.raw, result.token_usage, program.asked, [t.output for t in log.state("r", branch="exp").tasks])
            )

    assert found[0] == found[1]


def test_forks_keep_what_they_begin_with(log: eventlog.Log) -> None:
    """A fork from the middle gets a base of its own before its parent loses what it reads."""
    middle = next(e.seq for e in log.events("r") if e.type == "task_completed")
    log.fork("r", to=middle, branch="exp")
    before = log.state("r", branch="exp").tasks, log.state("r")
    report = log.compact(0)
    program = Program()
    result = log.run("r", branch="exp").kickoff(program.crew, inputs=TOPIC)

    assert {b.branch: b.cut for b in report.branches} == {"exp": middle, "main": before[1].cursor}
    assert program.asked == ["B", "C", "D"]
    assert result.raw == log.run("r").kickoff(Program().crew, inputs=TOPIC).raw
    assert log.state("r", branch="exp", to=middle).tasks == before[0]
    assert log.state("r") == before[1]


def test_executing_again_needs_the_tape(tmp_path: Path) -> None:
    """Without it the error says so; with it the run is executed again as before."""
    for name, keeps in (("kept.db", True), ("gone.db", False)):
        record(tmp_path / name)
        with eventlog.open(tmp_path / name) as log:
            log.compact(1, keep_tape=keeps)
            if keeps:
                assert log.run("r").reexecute(Program().crew, inputs=TOPIC).ok
            else:
                with pytest.raises(CompactedError, match="executing"):
                    log.run("r").reexecute(Program().crew, inputs=TOPIC)


def test_a_dry_run_changes_nothing(file: Path) -> None:
    """It says what would go, and the file is the same to the byte."""
    before = files_of(file)
    with eventlog.open(file) as log:
        report = log.compact(1, dry_run=True)

    assert report.dry_run
    assert report.branches[0].dropped > 0
    assert report.events_after == report.events_before
    assert files_of(file) == before


def test_space_returns_to_the_disk(tmp_path: Path) -> None:
    """Large texts that only compacted events mention are collected: all but the one at the cut."""
    with eventlog.open(tmp_path / "log.db") as log:
        for number in range(200):
            log.append("page.read", {"text": f"{number} " * 4_000}, run="r")
        log.snapshot("r")
        report = log.compact(1)

        assert report.bytes_after < report.bytes_before / 4
        assert (report.contents_before, report.contents_after) == (200, 1)
        assert (tmp_path / "log.db-wal").stat().st_size == 0


def test_an_archive_is_a_log_with_all_that_went(log: eventlog.Log, tmp_path: Path) -> None:
    """Every state at or before the cut can be read there, also after a second compaction into it."""
    before = {event.seq: log.state("r", to=event.seq) for event in log.events("r")}
    events = list(log.events("r"))
    archive = tmp_path / "old.db"
    first = log.compact(3, archive=archive).branches[0].cut
    second = log.compact(1, archive=archive).branches[0].cut

    assert first < second
    assert archive.stat().st_mode & 0o777 == 0o600
    with eventlog.open(archive, readonly=True) as old:
        assert list(old.events("r")) == [event for event in events if event.seq <= second]
        for seq in (seq for seq in before if seq <= second):
            assert old.state("r", to=seq).tasks == before[seq].tasks
    with pytest.raises(eventlog.LogUnwritableError, match="archive"):
        eventlog.open(archive)


def test_an_archive_of_another_log_is_refused(log: eventlog.Log, tmp_path: Path) -> None:
    """Two logs count their events alike: mixed, neither could be told from the other."""
    other = tmp_path / "other.db"
    record(other)

    with pytest.raises(eventlog.LogUnwritableError, match="not an archive of this log"):
        log.compact(1, archive=other)
    assert log.state("r", to=5).cursor == 5


def test_only_runs_that_have_been_quiet_are_compacted(log: eventlog.Log) -> None:
    """``older_than`` spares what is still at work."""
    assert log.compact(0, older_than=3600).branches == []
    assert len(log.compact(0, older_than=1e-9).branches) == 1


def test_projections_are_settled_at_the_cut(log: eventlog.Log) -> None:
    """A projection known to the process goes on from its state there; another version says what is gone."""

    @eventlog.projection("count_all", version=1, initial=dict)
    def count_all(state: Any, event: Any) -> Any:
        return {**state, event.type: state.get(event.type, 0) + 1}

    try:
        before = log.project(count_all, "r")
        log.compact(1)

        assert log.project(count_all, "r") == before
        with pytest.raises(CompactedError, match="count_all"):
            log.project(eventlog.Projection(name="count_all", version=2, initial=dict, step=count_all.step), "r")
    finally:
        eventlog.replay.projection._registered.pop("count_all")


def test_events_of_the_users_keep_ids_that_were_given(log: eventlog.Log) -> None:
    """Appended again, such an event is known: idempotency does not end with compaction."""
    seq = log.append("invoice.sent", {"id": 7}, run="r", event_id="invoice-7")
    log.append("note.made", run="r")
    log.compact(0)

    assert log.append("invoice.sent", {"id": 7}, run="r", event_id="invoice-7") == seq


def test_a_compaction_that_was_killed_is_finished_by_the_next_opener(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base has moved, nothing is deleted yet: all answers are right, and the rows go when the log is opened."""
    with eventlog.open(file) as log:
        monkeypatch.setattr(sweeping._Sweep, "step", lambda *_: 0)
        monkeypatch.setattr("eventlog.compaction.compact._swept", lambda _appender: None)
        cut = log.compact(1).branches[0].cut
        state, count = log.state("r"), log.reader.query("SELECT count(*) FROM events")[0][0]
        with pytest.raises(CompactedError):
            log.state("r", to=cut - 1)
    monkeypatch.undo()
    with eventlog.open(file) as log:
        deadline = time.monotonic() + 20
        while log.reader.query("SELECT value FROM meta WHERE key = 'unswept'")[0][0] and time.monotonic() < deadline:
            time.sleep(0.02)

        assert log.reader.query("SELECT count(*) FROM events")[0][0] < count
        assert log.state("r") == state


def test_a_log_compacts_itself_while_a_crew_is_running(tmp_path: Path) -> None:
    """``max_checkpoints``: old events go in the background, the crew's result is what it is without."""
    plain = record(tmp_path / "plain.db")
    with eventlog.open(tmp_path / "log.db", max_checkpoints=1, compact_events=40) as log:
        with log.run("r") as run:
            results = [run.kickoff(Program().crew, inputs={**TOPIC, "year": year}) for year in (2026, 2027, 2028)]
            deadline = time.monotonic() + 20
            while not log.status().cuts and time.monotonic() < deadline:
                time.sleep(0.05)
        status = log.status()

    assert results[0].raw == plain.raw
    assert status.cuts > 0
    assert (status.failed, status.last_error) == (0, None)


def test_writers_go_on_while_a_log_is_compacted(tmp_path: Path) -> None:
    """Every event that is appended meanwhile is there, whole: also one whose text was collected a moment ago."""
    texts = [f"{n} " * 400 for n in range(8)]
    with eventlog.open(tmp_path / "log.db") as log:
        stop = threading.Event()

        def write() -> None:
            number = 0
            while not stop.is_set():
                log.append("t.x", {"n": number, "text": texts[number % len(texts)]}, run="r")
                number += 1
                if number % 50 == 0:
                    log.snapshot("r")

        thread = threading.Thread(target=write)
        thread.start()
        reports: list[eventlog.CompactionReport] = []
        while sum(len(report.branches) for report in reports) < 3:
            reports.append(log.compact(1))
        stop.set()
        thread.join()
        seen = [event.payload for event in log.events("r")]

    assert [report.branches for report in reports if not report.ok] == []
    assert [payload["n"] for payload in seen] == list(range(seen[0]["n"], seen[-1]["n"] + 1))
    assert all(payload["text"] == texts[payload["n"] % len(texts)] for payload in seen)


def test_another_process_takes_no_collected_content_for_stored(tmp_path: Path) -> None:
    """Two encoders know a text; one log collects it; the other's next event still has it."""
    text = "what everybody knows " * 40
    with eventlog.open(tmp_path / "log.db") as log:
        log.append("t.x", {"text": text}, run="r")
        other = eventlog.writer.Writer(tmp_path / "log.db", eventlog.Options())
        known = compose_event(other, "t.x", {"text": text}, "r")
        other.pipeline.submit([known[0]])
        known[1]()
        waiting = compose_event(other, "t.x", {"text": text}, "r")[0]
        log.append("t.y", run="r")
        log.compact(0)
        gone = log.reader.query("SELECT count(*) FROM contents")[0][0]
        other.pipeline.submit([waiting])
        other.close()
        last = list(log.events("r"))[-1]

    assert not any(type(content).__name__ == "NewContent" for content in waiting.contents)
    assert gone == 0
    assert last.payload["text"] == text


def test_names_that_were_collected_are_not_given_to_others(tmp_path: Path) -> None:
    """Whoever reads has the rows of types and paths in memory: a number that was another's would be read as that.

    Seen to fail: when the row with the greatest number is deleted, which SQLite gives away again.
    """
    with eventlog.open(tmp_path / "log.db") as log, eventlog.open(tmp_path / "log.db", readonly=True) as other:
        for kind in ("t.first", "t.old", "t.first"):
            log.append(kind, run="r")
        before = [[event.type for event in reader.events("r")] for reader in (log, other)]
        log.compact(0)
        log.append("t.later", run="r")
        after = [[event.type for event in reader.events("r")] for reader in (log, other)]

    assert before == [["t.first", "t.old", "t.first"]] * 2
    assert after == [["t.later"]] * 2


def test_old_events_cannot_be_deleted_by_hand(file: Path) -> None:
    """Only compaction opens the guard, inside its own transactions."""
    with eventlog.open(file) as log:
        log.compact(1)
    db = sqlite3.connect(file)

    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute("DELETE FROM events")
    db.close()


def _two_steps(path: Path) -> eventlog.Log:
    """Return a log of ten events with a checkpoint in the middle."""
    log = eventlog.open(path, snapshot_on=("a.done",))
    for n in range(10):
        log.append("a.done" if n == 4 else "a.note", {"n": n}, run="r")
    return log


@pytest.mark.parametrize("ask", ["state", "refold", "project"])
def test_a_base_that_moves_before_the_events_are_read_changes_no_state(
    ask: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is folded begins at nothing; then a compaction takes the first events. Seen to fail: five events of ten."""
    counting = eventlog.Projection(name="counting", version=1, initial=int, step=lambda count, _event: count + 1)
    moved: list[int] = []
    with _two_steps(tmp_path / "log.db") as log, eventlog.open(tmp_path / "log.db", readonly=True) as reader:
        original = rebuild._at_base

        def at_base(*args: Any) -> Any:
            found = original(*args)
            if not moved and args[0] is reader.reader:  # the thread that stores states asks, too, when it gets to it
                moved.append(found[0])
                log.compact(max_checkpoints=1, run="r")
            return found

        with monkeypatch.context() as patched:
            patched.setattr(rebuild, "_nearest", lambda reader, row, _to, chosen=None: at_base(reader, row, chosen))
            patched.setattr(rebuild, "_at_base", at_base)
            if ask == "project":
                with pytest.raises(eventlog.CompactedError):  # nobody settled it: refused, not guessed
                    reader.project(counting, "r")
            elif ask == "refold":
                assert rebuild.refold_state(reader.reader, "r", "main", 10).event_count == 10
            else:
                assert reader.state("r").event_count == 10

    assert moved == [0]


def test_no_wrong_state_is_stored_when_a_base_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that stores states reads as others do; what it stores is proven, and would be believed."""
    moved: list[int] = []
    original = rebuild.nearest_state

    def nearest(reader: Any, run: str, branch: str) -> Any:
        found = original(reader, run, branch)
        if not moved:
            moved.append(found.cursor)
            with eventlog.open(tmp_path / "log.db", snapshot_on=()) as other:
                other.compact(max_checkpoints=1, run="r")
        return found

    _two_steps(tmp_path / "log.db").close()
    monkeypatch.setattr(snapshots, "CACHE_EVENTS_MIN", 1)
    monkeypatch.setattr(snapshots, "CACHE_BYTES_FACTOR", 0)
    monkeypatch.setattr(snapshots, "CLOSE_S", 0.2)  # the compaction waits for the thread that it runs in here
    monkeypatch.setattr(snapshots, "nearest_state", nearest)
    with eventlog.open(tmp_path / "log.db") as log:
        log.append("a.note", {"n": 10}, run="r")
        log.writer.snapshots.catch_up()
        assert log.state("r").event_count == 11
        assert log.verify(deep=True).ok

    assert moved == [0]
