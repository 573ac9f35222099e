"""What it costs to keep every call of a model as their number grows: time, bytes, memory; beside other stores."""

from __future__ import annotations

import gc
import multiprocessing
import random
import shutil
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from math import exp, log
from pathlib import Path
from typing import Any, Literal

import msgspec

from benchmarks import checkpointing, peers
from benchmarks.data import flat_pairs, growing_pairs
from benchmarks.peers import (
    BARE,
    BATCH,
    COMMIT,
    CREWAI,
    FSYNC,
    JSON_ALL,
    KEEP_ALL,
    OURS,
    RECORDER,
    SAVER,
    Peer,
    Store,
    bytes_in,
)
from benchmarks.report import Chart, Curve, Goal, Row, Table, single
from benchmarks.timing import Measure, Scale, sized, take_turns
from eventlog.cli.disk import call_events

Shape = Literal["flat", "conversations"]
FLAT_CHARS, GROWTH_CHARS, RESTART = 3_000, 2_000, 25
ALL_CALLS = 0
"""Instead of a number of last calls."""


class Plan(msgspec.Struct):
    """How many calls, and how often each is measured."""

    whole: tuple[int, ...]
    """Numbers of calls that everybody really keeps."""
    goal: int
    """Number at which goals are taken; those who write all calls at each keep only the last ones there."""
    more: tuple[int, ...]
    """Further numbers for those whose writes do not grow; from the second on for ours alone."""
    late: int
    """One more number for CrewAI that prunes nothing, or 0."""
    last: int
    """So many calls are the last ones."""
    rounds: int


MEMORY = (COMMIT, BATCH, SAVER, JSON_ALL)
"""Whose memory is measured: a process for each takes a while."""
PLANS: dict[Scale, Plan] = {
    "smoke": Plan((4, 8), 12, (), 0, 2, 1),
    "quick": Plan((15, 50), 100, (300,), 0, 5, 1),
    "full": Plan((100, 300), 1_000, (3_000, 10_000), 3_000, 10, 5),
}


class Cost(msgspec.Struct):
    """What one run through a store took."""

    each_us: list[float]
    """The calls it really kept; others were only remembered."""
    closing_s: float
    bytes: int
    """After closing."""

    @property
    def total_s(self) -> float:
        """All calls and closing, where all were kept; opening is nobody's."""
        return sum(self.each_us) / 1e6 + self.closing_s

    def last_s(self, last: int) -> float:
        """Return what one of the last calls takes."""
        return statistics.median(self.each_us[-last:]) / 1e6


def run(folder: Path, scale: Scale) -> list[Table]:
    """Measure calls that do not repeat, then conversations, then memory."""
    plan = PLANS[scale]
    flat, conversations = Bench(folder, "flat", plan), Bench(folder, "conversations", plan)
    return [*_flat(flat), *_conversations(conversations, scale), _memory(folder, scale, flat.found), _own(folder)]


class Bench:
    """Everybody, with calls of one shape, and what they cost so far."""

    def __init__(self, folder: Path, shape: Shape, plan: Plan) -> None:
        """Look who is there."""
        self.folder, self.shape, self.plan = folder / shape, shape, plan
        self.folder.mkdir()
        self.found = peers.installed(is_conversation=shape == "conversations")
        self.costs: dict[tuple[str, int], list[Cost]] = {}
        self.growing: set[str] = set()
        """Names of those whose writes hold all calls before."""

    def table(self, names: Iterable[str], calls: int, rounds: int, *, last: int = ALL_CALLS) -> Table:
        """Measure some at that many calls; ``last``: those who grow keep only so many at the end."""
        variants = {name: partial(self._measure, name, calls, last) for name in names if name in self.found}
        rows = take_turns(variants, rounds) if rounds > 1 else _once(variants)
        how = f"{rounds} rounds" if rounds > 1 else "measured once"
        kept = f"the last {last} of {calls:,}" if last else f"all of {calls:,}"
        return Table(f"One call, {self.shape}: {kept} ({how})", "µs", rows)

    def _measure(self, name: str, calls: int, last: int, number: int) -> list[float]:
        """Measure one once; the first round of several warms up."""
        cost, is_growing = through(self.found[name], self.folder / "place", self.shape, calls, last)
        if is_growing:
            self.growing.add(name)
        if number:
            self.costs.setdefault((name, calls), []).append(cost)
        return cost.each_us[-last:] if last else cost.each_us

    def names(self, *, growing: bool) -> list[str]:
        """Return those whose writes grow, or the others; known after one measurement of each."""
        return [name for name in self.found if (name in self.growing) == growing]

    def counts(self, name: str) -> list[int]:
        """Return the numbers of calls at which one was measured."""
        return sorted(calls for one, calls in self.costs if one == name)

    def _is_whole(self, name: str, calls: int) -> bool:
        """Whether one really kept all of so many calls."""
        return len(self.costs[name, calls][0].each_us) == calls

    def seconds(self, name: str, calls: int) -> float:
        """Return the time of all calls: measured, or the integral of the power law through the last calls.

        Measured is the mean: into some rounds falls a collection of all garbage, which takes as long as the rest.
        """
        if self._is_whole(name, calls):
            return statistics.fmean(cost.total_s for cost in self.costs[name, calls])
        points = [(n, self.costs[name, n][0].last_s(self.plan.last)) for n in self.counts(name)]
        return power(points, calls, is_sum=True)

    def bytes(self, name: str, calls: int) -> float:
        """Return the bytes after all calls: measured, or, where every state stays, by the power law of those before."""
        if self._is_whole(name, calls) or name not in {*KEEP_ALL, SAVER}:
            return statistics.median(cost.bytes for cost in self.costs[name, calls])
        whole = [n for n in self.counts(name) if self._is_whole(name, n)]
        return power([(n, self.costs[name, n][0].bytes) for n in whole], calls)

    def late_ratio(self, name: str, late: int, early: int) -> float:
        """Return how many times one call takes late what it takes early: of those that ran, the second half."""

        def at(calls: int) -> float:
            last = self.plan.last if name in self.growing else calls // 2
            return statistics.median(cost.last_s(last) for cost in self.costs[name, calls])

        return at(late) / at(early)

    def charts(self, title: str) -> list[Chart]:
        """Return time and bytes over the number of calls."""
        names = [name for name in self.found if len(self.counts(name)) > 1]
        x = f"calls (of those whose writes hold all calls before, fitted above {self.plan.whole[-1]})"
        times = [Curve(name, [(n, self.seconds(name, n)) for n in self.counts(name)]) for name in names]
        sizes = [Curve(name, [(n, self.bytes(name, n) / 1e6) for n in self.counts(name)]) for name in names]
        return [
            Chart("calls_time", f"{title}: time for all calls", x, "seconds", times),
            Chart("calls_bytes", f"{title}: on disk after all calls", x, "MB", sizes),
        ]


def _once(variants: Mapping[str, Measure]) -> list[Row]:
    """Measure each once, for what takes too long for rounds."""
    rows = []
    for name, measure in variants.items():
        gc.collect()
        rows.append(Row(name, [measure(1)]))
    return rows


def through(peer: Peer, folder: Path, shape: Shape, calls: int, last: int) -> tuple[Cost, bool]:
    """Run calls through a store in a folder that is removed after; returns the cost, and whether writes grow."""
    pairs = fresh(shape, calls)
    folder.mkdir()
    with ExitStack() as stack:
        store = stack.enter_context(peer(folder))
        if last and store.skip:
            for started, completed in pairs[:-last]:
                store.skip(started, completed)
            pairs = pairs[-last:]
        each = _keep(store, pairs)
        start = time.perf_counter()
        stack.close()
        closing = time.perf_counter() - start
    cost = Cost(each, closing, bytes_in(folder))
    shutil.rmtree(folder)
    return cost, store.skip is not None


def _keep(store: Store, pairs: Sequence[list[Any]]) -> list[float]:
    """Return the microseconds of each call."""
    out = []
    for started, completed in pairs:
        start = time.perf_counter()
        store.keep(started, completed)
        out.append((time.perf_counter() - start) * 1e6)
    return out


@cache
def _texts(shape: Shape, calls: int) -> list[tuple[list[Any], str]]:
    """Return messages and answer of each call; choosing the words takes longer than keeping them."""
    made = (
        flat_pairs(calls, FLAT_CHARS, 1) if shape == "flat" else growing_pairs(calls, GROWTH_CHARS, 1, restart=RESTART)
    )
    return [(event.messages, event.response) for event in made[1::2]]


def fresh(shape: Shape, calls: int) -> list[list[Any]]:
    """Return pairs of events that nobody has emitted yet; the texts are those of every other run."""
    called = f"{random.getrandbits(64):x}"
    return [call_events(messages, answer, f"{called}-{n}") for n, (messages, answer) in enumerate(_texts(shape, calls))]


def power(points: Sequence[tuple[float, float]], at: float, *, is_sum: bool = False) -> float:
    """Return the value of the power law that fits the points best; ``is_sum``: its integral up to there."""
    fit = statistics.linear_regression([log(x) for x, _ in points], [log(y) for _, y in points])
    value = exp(fit.intercept + fit.slope * log(at))
    return value * at / (max(fit.slope, 0) + 1) if is_sum else value  # a cost that grows, whatever noise says


def _flat(bench: Bench) -> list[Table]:
    """Measure everybody where everybody keeps all calls, then who grows at its end, the others in rounds."""
    plan, quickest = bench.plan, [name for name in bench.found if name not in CREWAI[2:]]
    first, *others = plan.whole
    tables = [bench.table(quickest, first, plan.rounds), bench.table(CREWAI[2:], first, 1)]
    tables += [bench.table(quickest, calls, 1) for calls in others]
    growing, steady = bench.names(growing=True), bench.names(growing=False)
    tables.append(bench.table([COMMIT, *growing], plan.goal, 1, last=plan.last))
    tables.append(bench.table(steady, plan.goal, plan.rounds))
    for number, calls in enumerate(plan.more):
        tables.append(bench.table(OURS if number else [*OURS, BARE, RECORDER], calls, 1))
    if plan.late:
        tables.append(bench.table([COMMIT, *KEEP_ALL], plan.late, 1, last=plan.last))
    return [*tables, *_flat_totals(bench)]


def _flat_totals(bench: Bench) -> list[Table]:
    """Return what all calls took together, with goals and pictures."""
    calls = bench.plan.goal
    spent = Table(f"{calls:,} calls, flat", "s", [single(n, bench.seconds(n, calls)) for n in bench.found])
    size = Table(f"{calls:,} calls, flat", "MB", [single(n, bench.bytes(n, calls) / 1e6) for n in bench.found])
    spent.charts = bench.charts(f"Calls of {FLAT_CHARS / 1000:g} KB")
    spent.notes = [
        f"fitted, not run: those whose writes hold all calls before, above {bench.plan.whole[-1]} calls",
        f"their time: the integral of the power law through the median of the last {bench.plan.last} calls of each run",
        "collections of all garbage are not in that, but in the others' means over rounds",
        "their bytes, where all states stay: the power law through the numbers that were run",
        "from the first call until all is in the file and it is closed; opening is not counted",
        *peers.missing(bench.found),
    ]
    spent.goals, notes = _flat_goals(bench)
    spent.notes += notes
    return [spent, size]


def _flat_goals(bench: Bench) -> tuple[list[Goal], list[str]]:
    """Return goals beside CrewAI's cheaper provider, and how flat ours is; its own flatness as notes."""
    calls, rivals = bench.plan.goal, [name for name in KEEP_ALL if name in bench.found]
    theirs_s = min(bench.seconds(name, calls) for name in rivals)
    theirs_bytes = min(bench.bytes(name, calls) for name in rivals)
    early, late = bench.plan.whole[0], (bench.plan.more or (calls,))[0]
    beside = f"{calls:,} calls, flat: CrewAI's cheaper provider, all states kept (fitted), beside"
    times, sizes = bench.charts("")
    goals = [
        Goal(f"{beside} `commit`: time", theirs_s / bench.seconds(COMMIT, calls), 500, at_least=True),
        Goal(f"{beside} `batch`: time", theirs_s / bench.seconds(BATCH, calls), 1_000, at_least=True),
        Goal(f"{beside} ours: bytes", theirs_bytes / bench.bytes(COMMIT, calls), 400, at_least=True),
    ]
    for name in (COMMIT, BATCH):
        ratio = bench.late_ratio(name, late, early)
        goals.append(Goal(f"a call at {late:,} beside one at {early}: `{_mode(name)}`", ratio, 1.3))
    for chart, what in ((times, "time"), (sizes, "bytes")):
        worst = max(curve.slope for curve in chart.curves if curve.name in OURS)
        goals.append(Goal(f"exponent of {what} over calls, the worst of ours", worst, 1.05, unit=""))
    shared = {name: max(bench.counts(name)) for name in rivals}
    notes = [
        f"{name}: a call at {n:,} beside one at {early}: {bench.late_ratio(name, n, early):.0f} x"
        for name, n in shared.items()
    ]
    return goals, notes


def _mode(name: str) -> str:
    """Return the mode in a name of ours."""
    return {COMMIT: "commit", BATCH: "batch", FSYNC: "fsync"}[name]


def _conversations(bench: Bench, scale: Scale) -> list[Table]:
    """Measure conversations that grow and begin anew; CrewAI keeps all calls of the shorter runs only."""
    plan = bench.plan
    few = sized(scale, smoke=4, quick=16, full=100)
    kept = [name for name in bench.found if name in KEEP_ALL]
    others = [name for name in bench.found if name not in CREWAI]
    tables = [bench.table([COMMIT, *kept], calls, 1) for calls in sorted({few // 2, few})]
    tables.append(bench.table([COMMIT, *kept], plan.goal, 1, last=plan.last))
    tables.append(bench.table(others, plan.goal, plan.rounds))
    calls, names = plan.goal, [*others, *kept]
    title = f"{calls:,} calls, conversations of {RESTART} calls, +{GROWTH_CHARS / 1000:g} KB per call"
    size = Table(title, "MB", [single(name, bench.bytes(name, calls) / 1e6) for name in names])
    spent = Table(title, "s", [single(name, bench.seconds(name, calls)) for name in names])
    size.notes = [f"CrewAI above {few} calls is fitted, as above"]
    if SAVER in bench.found:
        share = bench.bytes(COMMIT, calls) / bench.bytes(SAVER, calls)
        size.goals = [Goal(f"{calls:,} calls, conversations: bytes of ours beside SqliteSaver", share, 0.35)]
    return [*tables, spent, size]


def _memory(folder: Path, scale: Scale, found: dict[str, Peer]) -> Table:
    """Measure in a process each by how much keeping calls makes it bigger at most."""
    calls, last = PLANS[scale].goal, PLANS[scale].last
    names = sized(scale, smoke=[COMMIT], quick=[COMMIT], full=[name for name in MEMORY if name in found])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["crewai", "benchmarks.bench_calls"])
    rows = []
    for name in names:
        ours, its = context.Pipe(duplex=False)
        child = context.Process(target=_grown, args=(its, str(folder / "memory"), name, calls, last))
        child.start()
        its.close()  # so that a child that fails ends the wait
        rows.append(single(name, ours.recv()))
        child.join()
    notes = ["the most the process grew by since the store was open, its events made; each in its own process"]
    return Table(f"Memory: {calls:,} calls, flat (measured once)", "MB", rows, notes=notes)


def _grown(pipe: Any, folder: str, name: str, calls: int, last: int) -> None:
    """Send by how many megabytes this process grew at most."""
    place = Path(folder)
    pairs = fresh("flat", calls)
    place.mkdir()
    with peers.installed(is_conversation=False)[name](place) as store:
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before = _kilobytes("VmRSS")
        cut = len(pairs) - last if store.skip else 0
        for number, (started, completed) in enumerate(pairs):
            (store.skip if store.skip and number < cut else store.keep)(started, completed)
        grown = _kilobytes("VmHWM") - before
    shutil.rmtree(place)
    pipe.send(grown / 1e3)


def _kilobytes(field: str) -> int:
    """Return a figure about the memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


def _own(folder: Path) -> Table:
    """Count what CrewAI writes when it is configured to write at these events, during a real kickoff."""
    from crewai.state.checkpoint_config import CheckpointConfig

    rounds = 3
    place = folder / "own"
    config = CheckpointConfig(location=str(place), on_events=["llm_call_completed"])
    checkpointing.kickoff(checkpointing.crew(rounds=rounds, config=config))
    written = len(list(place.rglob("*.json"))) if place.exists() else 0
    rows = [single("calls of the model", rounds + 1), single("checkpoints written", written)]
    notes = ["the source of these events is the LLM, for which CrewAI finds no configuration"]
    title = 'A kickoff with CheckpointConfig(on_events=["llm_call_completed"])'
    return Table(title, "number", rows, notes=notes)
