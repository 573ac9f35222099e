"""What is read is what was recorded, or an error that says where it is not; what lies before that can still be read.

``tests/crash/test_torn.py`` damages files at random; here each kind of row is changed once, with a look at the words.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import eventlog
from eventlog import CompactedError, LogDamagedError
from eventlog.cli.main import run as command
from eventlog.digests import Row
from eventlog.read import Reader
from eventlog.soundness import Soundness
from tests.damage import edit
from tests.integration.test_resume_fork import Program

LONG = "a text that is long enough to be kept among the large values " * 5
WRONG = {
    "a payload": "UPDATE events SET payload = replace(payload, '5', '6') WHERE seq = 5",
    "a type": "UPDATE names SET name = 'an.error' WHERE name = 'the.fifth'",
    "a time": "UPDATE events SET at_ns = at_ns + 1 WHERE seq = 5",
    "an id": "UPDATE events SET event_id = 'another' WHERE seq = 5",
    "a flag": "UPDATE events SET flags = flags + 1 WHERE seq = 5",
    "a run": "UPDATE events SET run = 77 WHERE seq = 5",
    "an event taken away": "DELETE FROM events WHERE seq = 4",
    "a digest": "UPDATE events SET digest = zeroblob(20) WHERE seq = 5",
    "a content": "UPDATE contents SET body = replace(body, 'long', 'LONG')",
    "a content taken away": "DELETE FROM contents",
}
"""What was changed → how; nothing before seq 4 is touched."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log of eight events, the fifth and all after it with a large value."""
    with eventlog.open(tmp_path / "log.db", snapshot_on=()) as log:
        for n in range(1, 9):
            log.append("the.fifth" if n == 5 else "an.other", {"n": n, "text": LONG if n >= 5 else ""}, run="r")
    return tmp_path / "log.db"


@pytest.mark.parametrize("what", WRONG)
def test_what_was_changed_is_not_shown(what: str, path: Path) -> None:
    """Seen to fail: without the digests, and without the hashes of contents."""
    edit(path, WRONG[what])
    seen: list[int] = []
    with eventlog.open(path, readonly=True) as log:
        assert log.state("r", to=3).event_count == 3
        with pytest.raises(LogDamagedError):
            seen.extend(event.payload["n"] for event in log.events("r"))

    assert seen == [1, 2, 3, 4][: len(seen)]


@pytest.mark.parametrize("what", [what for what in WRONG if "content" not in what])
def test_no_state_is_made_of_it(what: str, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not by the library, and not by the command, which ends with the code for damage."""
    edit(path, WRONG[what])
    with eventlog.open(path, readonly=True) as log, pytest.raises(LogDamagedError):
        log.state("r")

    assert command(["replay", "r", "--db", str(path)]) == 3
    assert "eventlog verify" in capsys.readouterr().err  # the hint


def test_a_stored_state_that_was_changed_is_folded_anew(path: Path) -> None:
    """Seen to fail: without the proof of the state."""
    with eventlog.open(path) as log:
        log.snapshot("r", to=6)
        good = log.state("r")
    edit(path, "UPDATE snapshots SET state = replace(state, '\"event_count\":6', '\"event_count\":7')")

    with eventlog.open(path, readonly=True) as log:
        assert log.state("r") == good


def test_a_base_that_was_changed_is_refused(path: Path) -> None:
    """There are no events any more to fold it from. Seen to fail: without its proof."""
    with eventlog.open(path) as log:
        log.compact(0)
    edit(path, "UPDATE bases SET state = replace(state, '\"event_count\":8', '\"event_count\":7')")

    with eventlog.open(path, readonly=True) as log, pytest.raises(LogDamagedError, match="base at 8"):
        log.state("r")


def test_without_the_key_of_the_chain_a_log_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only its contents are compared then; with the key everything is."""
    monkeypatch.setenv("EVENTLOG_KEY", "a long random text")
    with eventlog.open(tmp_path / "log.db") as log:
        log.append_many([("a.b", {"n": n}) for n in range(3)], run="r")
    edit(tmp_path / "log.db", "UPDATE events SET payload = '{\"n\":7}' WHERE seq = 2")

    with eventlog.open(tmp_path / "log.db", readonly=True) as log, pytest.raises(LogDamagedError):
        log.state("r")
    monkeypatch.delenv("EVENTLOG_KEY")
    with eventlog.open(tmp_path / "log.db", readonly=True) as log:
        assert log.state("r").event_count == 3


def test_what_is_compacted_while_it_is_read_is_not_taken_for_damage(path: Path) -> None:
    """Its contents are gone, and that is as it should be. Seen to fail: without the look whether it is still there."""
    with eventlog.open(path) as log, eventlog.open(path, readonly=True) as other:
        rows = list(other.reader.stored(None))
        log.append("the.end", {"n": 9}, run="r")
        log.compact(0)
        with pytest.raises(eventlog.CompactedError):
            list(other.reader.decoded(rows))


@pytest.mark.parametrize("branch", ["main", "other"])
def test_a_base_that_moves_between_two_looks_is_not_taken_for_damage(
    branch: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an event follows is asked for in several statements; a compaction may come between any two of them."""
    moved: list[object] = []
    with eventlog.open(path, snapshot_on=()) as log, eventlog.open(path, readonly=True) as reader:
        log.fork("r", to=6, branch="other")
        for _ in range(2):
            log.append("an.other", {}, run="r", branch="other")
        log.snapshot("r", branch=branch)
        original = Soundness._anchor

        def anchor(soundness: Soundness, row: int) -> bytes:
            if not moved and soundness is reader.reader.soundness:
                moved.append(log.compact(max_checkpoints=1, run="r"))
            return original(soundness, row)

        monkeypatch.setattr(Soundness, "_anchor", anchor)
        with suppress(CompactedError):  # no answer, but no alarm either
            assert [event.seq for event in reader.events("r", branch)][-1] == (8 if branch == "main" else 10)

    assert moved


def test_a_crew_is_not_hurt_by_what_is_damaged(tmp_path: Path) -> None:
    """An answer that cannot be trusted is asked for again. Seen to fail: when the error reached the crew."""
    given = {"topic": "tea " * 200, "year": 2026}
    with eventlog.open(tmp_path / "log.db") as log:
        expected = log.run("r").kickoff(Program().crew, inputs=given).raw
        log.fork("r", to=next(e.seq for e in log.events("r") if e.type == "task_completed"), branch="b")
    edit(tmp_path / "log.db", "UPDATE contents SET body = replace(body, 'tea', 'TEA')", "DELETE FROM snapshots")

    program = Program()
    with eventlog.open(tmp_path / "log.db") as log:
        result = log.run("r", branch="b").kickoff(program.crew, inputs=given)

    assert result.raw == expected
    assert program.asked


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("branch", ["main", "other"])
def test_an_index_that_leaves_out_the_first_events_shows_none_of_the_others(
    after: int, branch: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree out of order leads past them, and backwards still to the last of them: what is left has one before it."""
    with eventlog.open(path) as log:
        log.fork("r", to=3, branch="other")
        log.append("an.other", {"n": 9}, run="r", branch="other")
    read = Reader._page_by_page

    def leave_out(reader: Reader, *args: Any) -> Iterator[list[Row]]:
        for page in read(reader, *args):
            yield [row for row in page if row.seq > 3]

    with eventlog.open(path, readonly=True) as log:
        whole = [event.seq for event in log.events("r", branch, after=after)]
        monkeypatch.setattr(Reader, "_page_by_page", leave_out)
        seen: list[int] = []
        with pytest.raises(LogDamagedError):
            seen.extend(event.seq for event in log.events("r", branch, after=after))
        with pytest.raises(LogDamagedError):
            log.state("r", branch=branch)

    assert whole[: 3 - after] == [1, 2, 3][after:]
    assert seen == []
