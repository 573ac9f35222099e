"""Laws of features: whatever is said of them, in whatever order, and by however many."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

import eventlog
from eventlog.errors import EventLogError
from eventlog.ledger.book import Book
from eventlog.ledger.events import (
    FeatureCompleted,
    FeatureDefined,
    FeatureUpdated,
    FeatureVerified,
    WorkEvent,
    fields_of,
)
from eventlog.ledger.feature import Features
from eventlog.ledger.features import FeatureInfo, FeatureStates, apply, chosen
from eventlog.record import StoredEvent

NAMES, STEPS = st.sampled_from(["auth", "api"]), st.sampled_from(["a", "b", "c"])
STEP_LISTS = st.lists(STEPS, max_size=4)
PEOPLE = st.sampled_from([None, "ann", "bob"])
STATUSES = st.sampled_from([None, "completed", "in_progress", "failed", "parked", ""])
EVENTS: st.SearchStrategy[WorkEvent] = st.one_of(
    st.builds(FeatureDefined, feature=NAMES, description=st.sampled_from(["", "x"]), test_steps=STEP_LISTS),
    st.builds(FeatureVerified, feature=NAMES, step=STEPS, passed=st.booleans(), by=PEOPLE, reason=PEOPLE),
    st.builds(FeatureUpdated, feature=NAMES, status=STATUSES, by=PEOPLE, implemented_by=PEOPLE),
    st.builds(FeatureCompleted, feature=NAMES, by=PEOPLE, forced=st.sampled_from([None, "", "why"])),
)
HISTORIES = st.lists(EVENTS, max_size=30)
ON_DISK = settings(max_examples=25)


def stored(events: list[WorkEvent]) -> list[StoredEvent]:
    """Return events as they come from a log."""
    return [
        StoredEvent(
            seq=seq, event_id=str(seq), type=event.event_type, at_ns=seq * 1000, run="r", branch="main",
            payload=msgspec.json.encode(fields_of(event)),
        )
        for seq, event in enumerate(events, 1)
    ]  # fmt: skip


def folded(events: list[StoredEvent], start: FeatureStates | None = None) -> FeatureStates:
    """Return the state after events."""
    state = FeatureStates() if start is None else start
    for event in events:
        apply(state, event)
    return state


def is_sound(info: FeatureInfo) -> bool:
    """Whether a feature is completed only if all test steps have passed, or somebody said why not."""
    return info.status != "completed" or not info.missing or bool(info.forced)


@given(HISTORIES)
def test_nothing_is_completed_while_a_test_step_has_not_passed_unless_forced(history: list[WorkEvent]) -> None:
    """After every event, whoever appended it: other processes do not ask us first.

    Seeded once: completing without a look at the test steps; a new test step, or a failure, that leaves it completed.
    """
    state = FeatureStates()
    for event in stored(history):
        apply(state, event)

        assert [info for info in chosen(state) if not is_sound(info)] == []


@given(HISTORIES, st.data())
def test_the_same_events_give_the_same_state_however_they_come(history: list[WorkEvent], data: st.DataObject) -> None:
    """At once, or in two parts with the first part stored in between."""
    events = stored(history)
    cut = data.draw(st.integers(0, len(events)))
    first = msgspec.json.decode(msgspec.json.encode(folded(events[:cut])), type=FeatureStates)

    assert folded(events[cut:], first) == folded(events)


@given(HISTORIES, EVENTS)
def test_a_definition_that_says_nothing_new_changes_nothing(history: list[WorkEvent], extra: WorkEvent) -> None:
    """Two processes may both append it."""
    events = stored([*history, extra])
    once = folded(events)
    if isinstance(extra, FeatureDefined):
        again = folded([msgspec.structs.replace(events[-1], seq=len(events) + 1)], folded(events))

        assert chosen(again) == chosen(once)


@given(HISTORIES)
def test_every_verdict_is_the_last_one_on_record(history: list[WorkEvent]) -> None:
    """What a test step says, its history says too: by whom, and when."""
    for info in chosen(folded(stored(history))):
        for step in info.test_steps:
            said = [c for c in info.history if c.step == step.step and c.what in ("passed", "failed")]

            assert step.status == "untested" or (step.status, step.by, step.at_ns, step.reason) == (
                said[-1].what, said[-1].by, said[-1].at_ns, said[-1].reason,
            )  # fmt: skip


@contextmanager
def new_log() -> Iterator[Any]:
    """A log in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder, eventlog.open(Path(folder) / "log.db") as log:
        yield log


@ON_DISK
@given(HISTORIES.filter(bool), HISTORIES, HISTORIES, st.data())
def test_a_fork_never_changes_its_parent(
    history: list[WorkEvent], on_fork: list[WorkEvent], later: list[WorkEvent], data: st.DataObject
) -> None:
    """Nor do later events of the parent reach the fork; both are what their own events make of them."""
    with new_log() as log:
        main = Book(log, "r")
        seqs = [main.append(event) for event in history]
        cut = data.draw(st.integers(0, len(seqs)))
        log.fork("r", to=seqs[cut - 1] if cut else 0, branch="b")
        for event in on_fork:
            Book(log, "r", "b").append(event)
        before = Features(main).features()
        for event in later:
            main.append(event)
        found = Features(Book(log, "r", "b")).features(), Features(main).features()

        assert plain(before) == plain(chosen(folded(stored(history))))
        assert plain(found[0]) == plain(chosen(folded(stored([*history[:cut], *on_fork]))))
        assert plain(found[1]) == plain(chosen(folded(stored([*history, *later]))))


def plain(infos: list[FeatureInfo]) -> list[Any]:
    """Return features without what depends on the clock and on other branches."""
    return [
        (i.name, i.status, i.completed_by, i.forced, i.implemented_by, [(s.step, s.status, s.by) for s in i.test_steps],
         [(c.what, c.step, c.by, c.reason, c.status) for c in i.history])
        for i in infos
    ]  # fmt: skip


@ON_DISK
@given(st.lists(st.tuples(st.integers(0, 1), EVENTS), max_size=20))
def test_handles_refuse_what_would_be_wrong_and_agree_with_each_other(said: list[tuple[int, WorkEvent]]) -> None:
    """Two handles on one log, each with a fold of its own: what one appended the other one knows."""
    with new_log() as log:
        handles = [Features(Book(log, "r")), Features(Book(log, "r"))]
        for which, event in said:
            with suppress(EventLogError):
                say(handles[which], event)

            assert [info for info in handles[which].features() if not is_sound(info)] == []
        assert handles[0].features() == handles[1].features() == Features(Book(log, "r")).features()


def say(features: Features, event: Any) -> None:
    """Say through a handle what an event says."""
    if isinstance(event, FeatureDefined):
        features.feature(event.feature, event.description, test_steps=event.test_steps)
        return
    feature = features.feature(event.feature)
    if isinstance(event, FeatureVerified):
        feature.passed(event.step, event.by) if event.passed else feature.failed(event.step, event.by, event.reason)
    elif isinstance(event, FeatureUpdated):
        feature.update(status=event.status, by=event.by, implemented_by=event.implemented_by)
    else:
        feature.complete(event.by, force=event.forced)
