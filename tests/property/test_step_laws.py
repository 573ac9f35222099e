"""Laws of the fold of a session: whatever workers say, and in whatever order, an item has one worker at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from eventlog.ledger import events as ev
from eventlog.ledger.overview import session_of
from eventlog.ledger.progress import Claim, Progress, apply, is_stale
from eventlog.ledger.session import Session
from eventlog.record import StoredEvent

ITEMS, CLAIMS = st.sampled_from(["a", "b", "c"]), st.sampled_from(["1", "2", "3"])
HASHES = st.sampled_from(["x", "y"])
FORMER = st.none() | CLAIMS
COUNTS = st.sampled_from([0, 0, 1, 2])


def _started(
    item: str, claim: str, over: str | None, after: int, inputs: str, upstream: dict[str, str]
) -> ev.StepStarted:  # fmt: skip
    return ev.StepStarted(item=item, claim=claim, supersedes=over, after=after, inputs_hash=inputs, upstream=upstream)


SAID: st.SearchStrategy[ev.WorkEvent] = st.one_of(
    st.builds(ev.SessionOpened, items=st.none() | st.lists(ITEMS)),
    st.builds(
        ev.SessionUpdated, summary=st.none() | st.text(max_size=3), completed_items=st.none() | st.lists(ITEMS),
        in_progress_item=st.none() | ITEMS, next_items=st.none() | st.lists(ITEMS),
        blocked_items=st.none() | st.dictionaries(ITEMS, st.just("why"), max_size=2),
    ),
    st.builds(ev.StepClaimed, item=ITEMS, claim=CLAIMS, supersedes=FORMER, after=COUNTS),
    st.builds(_started, ITEMS, CLAIMS, FORMER, COUNTS, HASHES, st.dictionaries(ITEMS, HASHES, max_size=2)),
    st.builds(ev.StepRenewed, item=ITEMS, claim=CLAIMS, until_ns=st.integers(0, 9)),
    st.builds(ev.StepMoved, item=ITEMS, claim=CLAIMS, branch=st.just("other")),
    st.builds(ev.StepCompleted, item=ITEMS, claim=FORMER, result=st.just({"value": 1}), result_hash=HASHES),
    st.builds(ev.StepFailed, item=ITEMS, claim=CLAIMS, error=st.just("no"), anew=st.booleans()),
    st.builds(ev.StepReleased, item=ITEMS, claim=FORMER),
    st.builds(ev.StepInvalidated, item=ITEMS),
    st.builds(ev.StepKept, item=ITEMS, inputs_hash=HASHES, upstream=st.dictionaries(ITEMS, HASHES, max_size=2)),
    st.builds(ev.StepBlocked, item=ITEMS, reason=st.just("why")),
    st.builds(ev.StepUnblocked, item=ITEMS),
)  # fmt: skip
HISTORIES = st.lists(SAID, max_size=25)


def stored(said: Sequence[ev.WorkEvent]) -> list[StoredEvent]:
    """Return events as the log holds them."""
    return [
        StoredEvent(
            seq=seq, event_id=str(seq), type=event.event_type, at_ns=seq, run="r", branch="main",
            payload=msgspec.json.encode(ev.fields_of(event)),
        )
        for seq, event in enumerate(said, 1)
    ]  # fmt: skip


def folded(events: Sequence[StoredEvent], state: Progress | None = None) -> Progress:
    """Return the state after events."""
    state = state or Progress()
    for event in events:
        apply(state, event)
    return state


def shown(state: Progress) -> Session:
    """Return what a person sees."""
    return session_of(state, "r", "main", lambda value: value, lambda _claim: True)


@given(HISTORIES, st.integers(0, 25))
def test_a_fold_that_goes_on_equals_one_from_the_start(said: list[ev.WorkEvent], cut: int) -> None:
    """The law that lets a process look again without reading everything again."""
    events = stored(said)

    assert folded(events[cut:], folded(events[:cut])) == folded(events)


@given(HISTORIES)
def test_only_a_claim_that_names_the_former_one_takes_an_item_from_its_worker(said: list[ev.WorkEvent]) -> None:
    """Two workers never both have an item: between them stands an end, a release, or the name of who is gone."""
    state = Progress()
    for event, what in zip(stored(said), said, strict=True):
        before = {name: step.claim for name, step in state.steps.items()}
        apply(state, event)
        for name, step in state.steps.items():
            if step.claim != before.get(name) and step.claim is not None and step.claim.id:
                former = before.get(name)
                assert former is None or not former.id or _may_replace(what, former, step.claim)


def _may_replace(what: ev.WorkEvent, former: Claim, now: Claim) -> bool:
    """Whether an event may put one claim in the place of another."""
    if isinstance(what, ev.StepRenewed):
        return former.id == now.id
    return isinstance(what, ev.StepClaimed) and former.id in (what.supersedes, now.id)


@given(HISTORIES)
def test_a_worker_that_lost_its_item_changes_nothing(said: list[ev.WorkEvent]) -> None:
    """Whatever it still says, a year later: results, errors, renewals, releases."""
    events = stored(said)
    state = folded(events)
    late = [
        ev.StepCompleted(item="a", claim="9", result={"value": 2}, result_hash="z"), ev.StepFailed(item="a", claim="9"),
        ev.StepRenewed(item="a", claim="9", until_ns=1), ev.StepReleased(item="a", claim="9"),
        ev.StepMoved(item="a", claim="9", branch="b"),
    ]  # fmt: skip
    state.step("a")
    after = folded(stored([*said, *late])[len(said) :], folded(events))
    after.step("a")

    assert msgspec.structs.replace(after, cursor=0, created_at_ns=0, updated_at_ns=0) == msgspec.structs.replace(
        state, cursor=0, created_at_ns=0, updated_at_ns=0
    )


@given(HISTORIES)
def test_every_item_stands_in_one_list(said: list[ev.WorkEvent]) -> None:
    """Nothing is both done and to be done, and nothing is forgotten."""
    found = shown(folded(stored(said)))
    lists = [found.completed_items, found.in_progress_items, found.next_items, found.blocked_items]

    assert sorted(name for names in lists for name in names) == sorted(item.name for item in found.items)
    assert (found.status == "completed") <= (found.next_items == [] or said[-1].event_type.endswith("updated"))


@given(HISTORIES)
def test_what_is_made_of_something_stale_is_stale(said: list[ev.WorkEvent]) -> None:
    """However long the chain of dependencies, and even when it is a circle."""
    state = folded(stored(said))
    for step in state.steps.values():
        deps: list[Any] = [state.steps.get(name) for name in step.upstream]
        stale = [d is None or d.stage != "completed" or d.is_invalid for d in deps]

        assert is_stale(state, step) >= (step.is_invalid or any(stale))


@given(st.binary(max_size=40), st.sampled_from([kind.event_type for kind in ev.SESSION_EVENTS]))
def test_what_says_nothing_changes_nothing_but_the_cursor(payload: bytes, event_type: str) -> None:
    """A strange file, or a payload that was taken out of the log: the fold goes on."""
    event = StoredEvent(seq=1, event_id="1", type=event_type, at_ns=1, run="r", branch="main", payload=payload)
    state = folded([event])

    assert state.cursor == 1
    shown(state)
