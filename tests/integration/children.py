"""Records scenarios in a process of its own: ``python -m tests.integration.children LOG NAME...``."""

from __future__ import annotations

import sys

import eventlog
from tests.integration.oracle import WatchedLLM
from tests.integration.recording import start
from tests.scenarios import World, build


def main(path: str, names: list[str]) -> None:
    """Record each scenario as a run of its name."""
    with eventlog.open(path) as log:
        for name in names:
            with log.run(name):
                start(build(name, World(WatchedLLM)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
