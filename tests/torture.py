"""How often a test that loops does so: a little in ``make test``, long and with other seeds in ``make torture``."""

from __future__ import annotations

import os
import random

TORTURE = os.environ.get("EVENTLOG_TORTURE") == "1"
SEED = os.environ.get("EVENTLOG_SEED", "1")
"""Any text; a failure is repeated with the seed it had."""


def rounds(normal: int, torture: int) -> int:
    """Return how many to do."""
    return torture if TORTURE else normal


def dice(name: str) -> random.Random:
    """Return the random numbers of a test, the same for the same seed."""
    return random.Random(f"{SEED}/{name}")
