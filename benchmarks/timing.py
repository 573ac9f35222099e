"""How things are timed: variants take turns in shuffled rounds, the first of which warms up and is not counted."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from benchmarks.report import Row

Scale = Literal["smoke", "quick", "full"]
"""``smoke``: does it run at all; ``quick``: rough, within a minute for everything; ``full``: what the README shows."""
Measure = Callable[[int], list[float]]
"""Takes the number of the round, returns its samples."""

ROUNDS = {"smoke": 1, "quick": 3, "full": 5}

T = TypeVar("T")


def sized(scale: Scale, *, smoke: T, quick: T, full: T) -> T:
    """Return what belongs to a scale."""
    return {"smoke": smoke, "quick": quick, "full": full}[scale]


def take_turns(variants: Mapping[str, Measure], rounds: int, *, seed: int = 1) -> list[Row]:
    """Measure each variant once per round, in an order that changes from round to round."""
    order, source = list(variants), random.Random(seed)
    rows = {name: Row(name, []) for name in variants}
    for number in range(rounds + 1):
        source.shuffle(order)
        gc.collect()
        for name in order:
            gc.collect(1)  # the oldest generation holds what was imported: that takes a fifth of a second
            samples = variants[name](number)
            if number:
                rows[name].rounds.append(samples)
    return list(rows.values())


def seconds(act: Callable[[], Any]) -> float:
    """Return how long something takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start
