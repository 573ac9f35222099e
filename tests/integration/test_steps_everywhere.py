"""A pipeline whose process dies after any of its events ends as if it had not, and asks nothing twice that is known."""

from __future__ import annotations

from pathlib import Path

import pytest

import eventlog
from eventlog.record import WORK_TYPES, Event
from eventlog.transfer.exports import export_lines
from eventlog.transfer.imports import import_file
from tests.integration.pipelines import ITEMS, RUN, Team, done
from tests.integration.resuming import cut
from tests.torture import TORTURE, drawn
from tests.verifying import problems

SPREAD = 12
"""Cuts between the events of the ledger, besides those around each."""


def events_of(file: Path, branch: str = "main") -> list[Event]:
    """Return the events of the pipeline."""
    with eventlog.open(file, readonly=True) as log:
        return list(log.events(RUN, branch))


def asked(events: list[Event]) -> int:
    """Return how many answers of the model are on record."""
    return sum(event.type == "llm_call_completed" for event in events)


def cuts_of(events: list[Event]) -> list[int]:
    """Return where to cut: around every event of the ledger, and here and there between; under torture anywhere."""
    seqs = [event.seq for event in events]
    marks = {seq for event in events if event.type in WORK_TYPES for seq in (event.seq - 1, event.seq)} & {*seqs}
    usual = sorted({*marks, *seqs[:: len(seqs) // SPREAD]})
    return drawn("steps/cuts", usual, 60, seqs) if TORTURE else usual


def test_a_pipeline_that_dies_after_any_event_goes_on_there(tmp_path: Path) -> None:
    """Its results, its session and what it asked are those of one that was never interrupted."""
    expected, team = done(tmp_path / "log.db")
    whole = events_of(tmp_path / "log.db")
    found: list[tuple[object, ...]] = []

    for seq in cuts_of(whole):
        left = [event for event in whole if event.seq <= seq]
        file = cut(tmp_path / "log.db", seq, tmp_path / f"cut-{seq}.db")
        results, again = done(file)
        with eventlog.open(file, readonly=True) as log:
            session = log.ledger(RUN).session()
        if (results, again.calls) != (expected, team.calls - asked(left)):
            found.append((seq, left[-1].type, again.calls, team.calls - asked(left)))
        if session.completed_items != ITEMS or list(problems(file)):
            found.append((seq, left[-1].type, session.status))
        file.unlink()

    assert found == []


@pytest.mark.parametrize("compacts", [False, True])
def test_a_fork_in_the_middle_of_a_step_goes_on_in_the_middle(tmp_path: Path, compacts: bool) -> None:
    """The recorded answers of an unfinished step belong to every branch that begins after them; compacted or not."""
    expected, team = done(tmp_path / "log.db")
    whole = events_of(tmp_path / "log.db")
    second = [event.seq for event in whole if event.type == "eventlog.llm_exchange"][5]
    left = [event for event in whole if event.seq <= second]
    file = cut(tmp_path / "log.db", second, tmp_path / "cut.db")
    if compacts:
        with eventlog.open(file) as log:
            log.compact(0)
    with eventlog.open(file) as log:
        log.fork(RUN, branch="other")
        before = log.ledger(RUN).session()
        with log.run(RUN, branch="other", items=ITEMS) as run:
            team.llm.calls.clear()
            asked_before = team.calls
            results = team.pipeline(run)

        assert results == expected
        assert team.calls - asked_before == 12 - asked(left)
        assert log.ledger(RUN).session() == before


@pytest.mark.parametrize("way", ["export", "backup", "encrypted"])
def test_a_pipeline_travels_and_goes_on_elsewhere(tmp_path: Path, way: str) -> None:
    """Half done, it is exported, backed up or encrypted: what is known is known in the other file, too."""
    expected, team = done(tmp_path / "log.db")
    whole = events_of(tmp_path / "log.db")
    seq = [event.seq for event in whole if event.type == "eventlog.llm_exchange"][5]
    file, other = cut(tmp_path / "log.db", seq, tmp_path / "cut.db"), tmp_path / "other.db"
    key = "correct horse" if way == "encrypted" else None
    with eventlog.open(file) as log:
        before = log.ledger(RUN).session()
        if way == "backup":
            log.backup(other)
        else:
            lines = tmp_path / "lines.jsonl"
            lines.write_bytes(b"".join(export_lines(log, None)))
            with eventlog.open(other, key=key) as target:
                import_file(target, lines)
    again = Team()
    with eventlog.open(other, key=key) as log:
        assert log.ledger(RUN).session() == before
        with log.run(RUN, items=ITEMS) as run:
            results = again.pipeline(run)

    assert results == expected
    assert again.calls == team.calls - asked([event for event in whole if event.seq <= seq])
