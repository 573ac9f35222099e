"""Cut the log of a finished scenario at any event, let fresh objects go on from there, and compare with the whole.

What must be equal: the result, what the fold makes of the log, the live object afterwards. What must not
happen twice: calls of models, runs of tools, questions, operations of the memory, callbacks of finished tasks.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from crewai.flow.flow import Flow
from pydantic import BaseModel

import eventlog
from eventlog.record import FLAG_REPLAYED, Event
from eventlog.replay.state import RunState
from tests.scenarios import Scenario, build, texts
from tests.scenarios.world import TOOLS
from tests.torture import TORTURE, drawn

RUN = "r"

PER_PROCESS = frozenset(("eventlog.resumed", "eventlog.definition", "eventlog.command", "default_env"))
"""What every process says of itself."""
BY_TIME = frozenset(("eventlog.flow_state", "llm_stream_chunk", "eventlog.memory_exchange"))
"""How many of these there are depends on the moment of the cut: what was told and not saved yet is told again."""
SHARED_SUMS = frozenset(("kickoff_for_each_async", "akickoff_for_each"))
"""Shapes whose kickoffs add up tokens in one model at the same time: each sees what the others have used so far."""
IN_THREADS = frozenset(("kickoff_for_each_async",))
"""Shapes whose tasks begin in the order in which their threads do."""
LANDMARKS = (
    "llm_call_started", "llm_call_completed", "llm_call_failed", "eventlog.llm_exchange",
    "tool_usage_started", "eventlog.tool_exchange", "eventlog.human_exchange", "eventlog.memory_exchange",
    "task_completed", "method_execution_finished", "crew_kickoff_completed", "flow_finished",
    "eventlog.execution_result",
)  # fmt: skip
"""Events at which something is won or lost: a cut right after each is always tried."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario that ran in a log, to its end or to its error, and what is left of both."""

    name: str
    file: Path
    scenario: Scenario
    result: Any
    error: Exception | None
    events: list[Event]
    state: RunState
    failed: int
    """Errors of ours, by ``log.status()``."""
    live_state: Any
    """State of a live flow afterwards, without its id."""

    @property
    def touched(self) -> Counter[str]:
        """How often each part of the world was touched."""
        world = self.scenario.world
        found = Counter(llm=world.llm_calls, tool=len(world.tool_runs), question=len(world.questions))
        if world.store is not None:
            found["save"] = len(world.store.saves)
        return +found


def perform(scenario: Scenario, file: Path, **options: Any) -> Seen:
    """Run a scenario in the log at ``file``, and go on with what is unfinished there."""
    result, error = None, None
    with eventlog.open(file, **options) as log:
        with log.run(RUN) as run, run.directed():
            try:
                result = scenario.start()
            except Exception as raised:
                error = raised
            scenario.world.settle()
        return Seen(
            name=scenario.name, file=file, scenario=scenario, result=result, error=error,
            events=list(log.events(RUN)), state=log.state(RUN), failed=log.status().failed,
            live_state=_live_state(scenario.subject),
        )  # fmt: skip


def record_whole(name: str, folder: Path, **options: Any) -> Seen:
    """Run a scenario to its end without interruption."""
    whole = perform(build(name), folder / f"{name}.db", **options)

    assert isinstance(whole.error, whole.scenario.raises or type(None)), whole.error
    assert whole.failed == 0
    return whole


def cut(file: Path, seq: int, target: Path) -> Path:
    """Copy a log as it was right after an event: what a process leaves that is killed there."""
    shutil.copy(file, target)
    db = sqlite3.connect(target, isolation_level=None)
    db.execute("BEGIN")
    db.execute("UPDATE meta SET value = 1 WHERE key = 'compacting'")
    db.execute("DELETE FROM events WHERE seq > ?", (seq,))
    db.execute("UPDATE meta SET value = 0 WHERE key = 'compacting'")
    db.execute("UPDATE meta SET value = ? WHERE key = 'last_seq'", (seq,))
    db.execute("DELETE FROM executions WHERE started_seq > ?", (seq,))
    db.execute("UPDATE executions SET status = 'running', ended_seq = NULL WHERE ended_seq > ?", (seq,))
    db.execute("DELETE FROM snapshots WHERE seq > ?", (seq,))
    db.execute("COMMIT")
    db.close()
    return target


def resume(before: Seen, seq: int, folder: Path, *, keeps_memory: bool = True, **options: Any) -> Seen:
    """Cut a log after an event and run the scenario anew on what is left; a memory may be lost as well."""
    scenario = build(before.name)
    scenario.world.go_on_after(happened(upto(before, seq)))
    if keeps_memory:
        _bring_back_memories(before, scenario, seq)
    target = cut(before.file, seq, folder / f"cut-{before.file.stem}-{seq}.db")
    return perform(scenario, target, **options)


def _bring_back_memories(before: Seen, scenario: Scenario, seq: int) -> None:
    """Give a memory what its store held when the process died: what was saved by then."""
    store = before.scenario.world.store
    if store is not None:
        saved = sum(event.type == "memory_save_completed" for event in own(upto(before, seq)))
        scenario.world.store.records = [record for records in store.saves[:saved] for record in records]


def upto(seen: Seen, seq: int) -> list[Event]:
    """Return the events of a log that are left by a cut."""
    return [event for event in seen.events if event.seq <= seq]


def own(events: Iterable[Event]) -> list[Event]:
    """Return the events that happened when they were recorded, without those that a resumed kickoff says again."""
    return [event for event in events if not event.flags & FLAG_REPLAYED]


def happened(events: Iterable[Event]) -> Counter[str]:
    """Return how often the world was touched, by the log: what may not happen again."""
    found: Counter[str] = Counter()
    for event in own(events):
        fields = event.payload
        if event.type == "eventlog.llm_exchange":  # of a model that emits nothing
            found["llm"] += fields.get("completed") is None and fields.get("failed") is None
        elif event.type == "llm_call_failed":
            found.update(("llm", "outage"))
        else:
            kind = {
                "llm_call_completed": "llm",
                "eventlog.tool_exchange": "tool" if fields.get("tool") in TOOLS else None,
                "eventlog.human_exchange": "question",
                "memory_save_completed": "save",
            }.get(event.type)
            found.update([kind] if kind else [])
    return +found


def problems(whole: Seen, left: list[Event], resumed: Seen) -> list[str]:
    """Return everything in which a resumed scenario is not as the whole one. ``left``: the log before it began."""
    return [
        *_problems_of_result(whole, resumed),
        *_problems_of_world(whole, left, resumed),
        *([f"{resumed.failed} errors of our own"] if resumed.failed else []),
        *(_problems_of_log(whole, left, resumed) if whole.error is None else ()),
    ]


def _problems_of_result(whole: Seen, resumed: Seen) -> list[str]:
    """Compare what came out: text, type, structured parts, tokens, and what became of the live object."""
    if type(resumed.error) is not type(whole.error):
        return [f"raised {resumed.error!r} instead of {whole.error!r}"]
    expected, got = _shown(whole), _shown(resumed)
    return [f"{key}: {got[key]!r} instead of {expected[key]!r}" for key in expected if got[key] != expected[key]]


def _shown(seen: Seen) -> dict[str, Any]:
    """Return what is to be compared of a result."""
    results = seen.result if isinstance(seen.result, list) else [seen.result]
    return {
        "texts": texts(seen.result),
        "types": [type(result).__qualname__ for result in results],
        "parts": [_plain(part) for r in results for part in _parts(r)],
        "tokens": [_plain(getattr(r, "token_usage", None)) for r in results if seen.name not in SHARED_SUMS],
        "state of the flow": seen.live_state,
    }


def _parts(result: Any) -> list[Any]:
    """Return the structured parts of a result, with those of its tasks."""
    tasks = [output for task in getattr(result, "tasks_output", ()) for output in _parts(task)]
    return [*tasks, *(getattr(result, name, None) for name in ("raw", "pydantic", "json_dict"))]


def _plain(value: Any) -> Any:
    """Return a value whose equality does not depend on classes that each build makes anew."""
    if isinstance(value, BaseModel):
        return type(value).__qualname__, {name: _plain(field) for name, field in value.model_dump().items()}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    return value


def _live_state(subject: Any) -> Any:
    """Return the state of a live flow; its id is new until a method of it is on record."""
    if not isinstance(subject, Flow):
        return None
    state = dict(subject.state)
    return {key: _plain(value) for key, value in state.items() if key != "id"}


def _problems_of_world(whole: Seen, left: list[Event], resumed: Seen) -> list[str]:
    """Compare how the world was touched: what is on record must not be asked again, all else exactly once."""
    recorded = happened(left)
    keys = {*whole.touched, *resumed.touched}
    expected = {key: whole.touched[key] - recorded[key] for key in keys}
    found = [
        f"{key}: {resumed.touched[key]} times instead of {expected[key]}"
        for key in sorted(keys)
        if resumed.touched[key] != expected[key] and not _is_retry(whole, key)
    ]
    finished = {event.payload["output"]["fields"]["name"] for event in own(left) if event.type == "task_completed"}
    again = [c for c in resumed.scenario.world.callbacks if c.partition(" of ")[2] in finished]
    return [*found, *(f"callback {callback} repeated" for callback in again)]


def _is_retry(whole: Seen, key: str) -> bool:
    """Whether a difference is CrewAI's business: what ends in an error is tried again as often as it is started."""
    return whole.error is not None and key == "llm"


def _problems_of_log(whole: Seen, left: list[Event], resumed: Seen) -> list[str]:
    """Compare what the log says."""
    if is_after_failure(left):
        return []  # what came of the failed attempt stays on record, and no second attempt of CrewAI's follows it
    expected, got = _folded(whole), _folded(resumed)
    found = [f"state.{key}: {got[key]!r} instead of {expected[key]!r}" for key in expected if got[key] != expected[key]]
    events = Counter(_places(resumed.events))
    events.subtract(Counter(_places(whole.events)))
    return [*found, *(f"event {place}: {count:+}" for place, count in events.items() if count)]


def is_after_failure(events: list[Event]) -> bool:
    """Whether the last model call on record failed."""
    ends = [event.type for event in own(events) if event.type in ("llm_call_completed", "llm_call_failed")]
    return ends[-1:] == ["llm_call_failed"]


def _folded(seen: Seen) -> dict[str, Any]:
    """Return what the fold makes of a log, without what is new in every process."""
    state = seen.state
    keys = {task.key: n for n, task in enumerate(state.tasks)} if seen.name == "planning" else {}
    tasks = [(keys.get(task.key, task.key), task.status, task.output) for task in state.tasks]
    flow_state = state.flow_state
    return {
        "status": state.status,
        "llm": (state.llm.calls, state.llm.total_tokens),
        "tools": [(tool.name, tool.calls) for tool in state.tools],
        "tasks": sorted(tasks) if seen.name in IN_THREADS else tasks,
        "methods": sorted((method.name, method.status, method.runs) for method in state.methods),
        "flow_state": {k: v for k, v in flow_state.items() if k != "id"} if isinstance(flow_state, dict) else None,
        "open": [(scope.type, scope.name) for scope in state.open],
    }


def _places(events: Iterable[Event]) -> list[tuple[str, str]]:
    """Return type and path of the events that happened in executions, however many processes it took."""
    skipped = PER_PROCESS | BY_TIME
    kept = (event for event in own(events) if event.type not in skipped and "/memory_" not in event.path)
    return [(event.type, event.path) for event in kept if event.path]


# -- which cuts to try -------------------------------------------------------------------------------


def cuts(whole: Seen, most: int) -> list[int]:
    """Return the seqs to cut after: all if they are few, else landmarks first, evenly chosen; under torture any."""
    seqs = [event.seq for event in whole.events]
    if TORTURE or len(seqs) <= most:
        return drawn(f"cuts/{whole.name}", seqs, 2 * most, seqs)
    marks = [event.seq for event in whole.events if event.type in LANDMARKS]
    firsts = {event.type: event.seq for event in reversed(whole.events)}
    chosen = {*_spread(marks, most * 2 // 3), *(firsts[kind] for kind in LANDMARKS if kind in firsts), seqs[-1]}
    rest = [seq for seq in seqs if seq not in chosen]
    return sorted({*chosen, *_spread(rest, max(0, most - len(chosen)))})


def _spread(seqs: list[int], count: int) -> list[int]:
    """Return at most so many of them, evenly apart; the same each time."""
    if len(seqs) <= count:
        return seqs
    return [seqs[i * len(seqs) // count] for i in range(count)]


def sweep(whole: Seen, folder: Path, seqs: Iterable[int], **options: Any) -> list[str]:
    """Resume from each cut; returns a line for each problem found."""
    found = []
    for seq in seqs:
        left = upto(whole, seq)
        resumed = resume(whole, seq, folder, **options)
        here = f"{whole.name} cut after {seq} {left[-1].type} {left[-1].path[-60:]}"
        found += [f"{here}: {problem}" for problem in problems(whole, left, resumed)]
        with suppress(OSError):
            resumed.file.unlink()
    return found
