"""``examples/claims_triage.py``: a second start skips both tasks; what is invalid or changed is done again, no more."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import eventlog
from tests.cli_world import ROOT, environment
from tests.killing import killed_after

EXAMPLE = ROOT / "examples" / "claims_triage.py"
RUN = "triage"


class World:
    """A folder with case notes and a log."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.db = folder, folder / "log.db"
        self.write("Policy 4711, hail on 2026-03-02.")

    def write(self, notes: str) -> None:
        """Edit the case notes."""
        (self.folder / "notes.txt").write_text(notes)

    def start(self) -> list[str]:
        """Start the example; returns what it prints itself, without CrewAI's panels."""
        child = subprocess.run(
            [sys.executable, str(EXAMPLE), str(self.folder / "notes.txt")], env=environment(EVENTLOG_DB=str(self.db)),
            check=True, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        found = re.findall(
            r"Loaded run #\d+|Claims Researcher saw \w+", child.stdout
        )  # the panels stand anywhere between
        return [found[0], found[-1]]

    def calls(self) -> Counter[str]:
        """Return how often the model was asked in each step, over all starts."""
        with eventlog.open(self.db, readonly=True) as log:
            asked = log.events(RUN, types=["llm_call_completed"])
            return Counter(re.findall(r"@(\w+)", event.path)[0] for event in asked if not event.flags)

    def attempts(self) -> list[int]:
        """Return how often each step was begun."""
        with eventlog.open(self.db, readonly=True) as log:
            return [item.attempts for item in log.ledger(RUN).session().items]


def test_the_example_does_what_is_left_to_do(tmp_path: Path) -> None:
    """Two starts; then one step is invalidated; then the notes change."""
    world = World(tmp_path)
    first = world.start()
    second = world.start()
    assert (first[0], second) == ("Loaded run #1", ["Loaded run #2", first[1]])
    assert (world.calls(), world.attempts()) == ({"analyze_task": 1, "draft_task": 1}, [1, 1])

    with eventlog.open(world.db) as log:
        log.ledger(RUN).invalidate("analyze_task")
    third = world.start()
    assert third[1] == first[1]
    assert world.attempts() == [2, 1]

    world.write("Policy 4711, hail on 2026-03-03.")
    fourth = world.start()
    assert fourth[1] != first[1]
    assert world.attempts() == [3, 2]


@pytest.mark.parametrize("after", ["llm_call_completed", "eventlog.step_completed"])
def test_the_example_goes_on_after_a_kill(tmp_path: Path, after: str) -> None:
    """Killed in the middle of either task, or between them: the next start prints what one that was not killed does."""
    world = World(tmp_path)
    expected = world.start()
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        killed = World(folder)
        words = [str(EXAMPLE), str(folder / "notes.txt")]
        code = killed_after(after, number, words, folder, EVENTLOG_DB=str(killed.db))
        again = killed.start()

        assert code == -signal.SIGKILL
        assert again[1] == expected[1]
        assert killed.calls() == {"analyze_task": 1, "draft_task": 1}


def test_the_example_has_fewer_lines_than_keeping_a_file_by_hand() -> None:
    """What it replaces took a load, a save, and an ``if`` around every task."""
    code = [line for line in EXAMPLE.read_text().partition('"""\n\n')[2].splitlines() if line.strip()]

    assert len(code) <= 32
