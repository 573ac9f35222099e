"""Laws of the fold: where it is cut does not matter, nothing makes it fail, nothing given is changed."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from eventlog.record import StoredEvent
from eventlog.replay.event_types import KNOWN_TYPES
from eventlog.replay.fold import apply_event, begin_fold, fold_events
from eventlog.replay.state import RunState, copy_state
from eventlog.values import collect_refs, plain, resolve

NOTHING: dict[str, Any] = {}
SEGMENTS = st.sampled_from(
    ["crew:k#0", "crew:k#1", "flow:F#0", "agent:a#0", "task:t#0", "task[a]#0", "task[a]#1", "method[m]#0", "llm#0",
     "agent_execution#0", "internal[AgentExecutor]#0", "tool[s:0]#0", ""]
)  # fmt: skip
PATHS = st.lists(SEGMENTS, max_size=5).map(lambda parts: "".join(f"/{part}" for part in parts)) | st.text(max_size=8)
IDS = st.sampled_from(["t1", "t2", "a", "b"])
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "id", "key", "fields", "raw", "$content", "$map", "$ref", "n"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
REFS = st.fixed_dictionaries({"id": IDS, "key": IDS})
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "task": REFS,
        "tasks": st.lists(st.fixed_dictionaries({"id": IDS, "key": IDS}), max_size=4),
        "task_id": IDS,
        "key": IDS,
        "flow_name": st.sampled_from(["F", "AgentExecutor"]),
        "method_name": st.sampled_from(["m", "n"]),
        "crew_name": st.text(max_size=3),
        "tool_name": IDS,
        "model": IDS,
        "usage": st.dictionaries(
            st.sampled_from(["prompt_tokens", "output_tokens", "input_tokens"]), LEAVES, max_size=2
        ),
        "state": st.dictionaries(IDS, TREES, max_size=2) | TREES,
        "set": st.dictionaries(IDS, TREES, max_size=2),
        "unset": st.lists(IDS, max_size=2),
        "inputs": st.dictionaries(IDS, TREES, max_size=2),
        "outputs": st.dictionaries(IDS | PATHS, TREES, max_size=2),
        "reset": st.lists(IDS | PATHS, max_size=2),
        "execution": PATHS,
        "output": TREES,
        "result": TREES,
        "error": TREES,
        "agent": TREES,
    },
)
PAYLOADS = (
    FIELDS.map(msgspec.json.encode)
    | st.dictionaries(st.sampled_from(["task", "tasks", "state", "usage", "model", "output"]), TREES).map(
        msgspec.json.encode
    )
    | st.binary(max_size=20)
)
TYPES = st.sampled_from(sorted(KNOWN_TYPES)) | st.sampled_from(
    ["crew_kickoff_started", "crew_kickoff_completed", "task_started", "task_completed", "task_failed", "flow_started",
     "eventlog.definition", "eventlog.fork_edited", "eventlog.execution_aborted", "method_execution_started"]
) | st.text(max_size=6)  # fmt: skip


def number(drafts: list[dict[str, Any]]) -> list[StoredEvent]:
    """Return the drafts as events of one lineage; some name an earlier event as their start."""
    events = []
    for seq, draft in enumerate(drafts, 1):
        back = draft.pop("back")
        started = f"e{seq - back}" if 0 < back < seq else None
        events.append(
            StoredEvent(seq=seq, event_id=f"e{seq}", run="r", branch="main", started_event_id=started, **draft)
        )
    return events


HISTORIES = st.lists(
    st.fixed_dictionaries(
        {
            "type": TYPES,
            "path": PATHS,
            "payload": PAYLOADS,
            "at_ns": st.integers(-(2**63), 2**63),
            "task_id": st.none() | IDS,
            "task_name": st.none() | IDS,
            "agent_role": st.none() | IDS,
            "back": st.integers(0, 6),
        }
    ),
    max_size=25,
).map(number)


def replay(events: list[StoredEvent], start: RunState | None = None) -> RunState:
    """Return the state after ``events``."""
    return fold_events(events, start, run="r", branch="main")


@given(HISTORIES, st.data())
def test_replay_from_a_snapshot_equals_replay_from_the_start(history: list[StoredEvent], data: st.DataObject) -> None:
    """The law that makes snapshots, compaction and forks safe, at every cut, through the bytes a snapshot stores."""
    cut = data.draw(st.integers(0, len(history)))

    stored = msgspec.json.encode(replay(history[:cut]))
    snapshot = msgspec.json.decode(stored, type=RunState)

    assert msgspec.json.encode(snapshot) == stored
    assert replay(history[cut:], snapshot) == replay(history)


@given(HISTORIES)
def test_a_fold_cut_after_every_event_equals_an_uncut_one(history: list[StoredEvent]) -> None:
    """Every index of the fold can be rebuilt from the state alone."""
    state = replay([])
    for event in history:
        state = replay([event], state)

    assert state == replay(history)


@given(HISTORIES, HISTORIES)
def test_the_state_given_as_start_is_never_changed(first: list[StoredEvent], second: list[StoredEvent]) -> None:
    """Snapshots are shared between readers."""
    start = replay(first)
    kept = copy_state(start)
    after = [msgspec.structs.replace(event, seq=event.seq + len(first)) for event in second]

    replay(after, start)

    assert start == kept


@given(HISTORIES)
def test_no_history_makes_the_fold_fail_and_no_event_is_lost(history: list[StoredEvent]) -> None:
    """Whatever is in the file, a state comes out, it is JSON, and every event is in the count."""
    state = replay(history)
    unlisted = sum(state.unknown_types.values()) + sum(state.user_types.values())

    assert (state.event_count, state.cursor) == (len(history), len(history))
    assert unlisted == sum(event.type not in KNOWN_TYPES for event in history)
    assert state.malformed <= len(history)
    assert len({row.path for row in state.executions}) == len(state.executions)


@given(HISTORIES)
def test_a_fold_that_is_watched_equals_one_that_is_not(history: list[StoredEvent]) -> None:
    """``result`` may be asked for after any event, as ``--follow`` does."""
    work = begin_fold(run="r", branch="main")
    for event in history:
        apply_event(work, event)
        work.result()

    assert work.result() == replay(history)


@given(TREES)
def test_any_tree_can_be_made_readable_and_stays_so(tree: Any) -> None:
    """Plain is plain: doing it twice changes nothing, and a tree without references resolves to itself."""
    shown = plain(tree)

    assert msgspec.json.decode(msgspec.json.encode(shown)) == shown
    if not collect_refs(tree):
        assert resolve(tree, NOTHING.__getitem__) == tree
