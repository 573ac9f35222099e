"""Programs of users that are killed right after an event is in their log."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.cli_world import environment

_KILLER = """
import os, runpy, signal, sys
from eventlog.pipeline import Pipeline
kind, left = sys.argv[1], [int(sys.argv[2])]
def dies(do):
    def then(self, events, *args):
        result = do(self, events, *args)
        left[0] -= sum(event.type == kind and not event.flags for event in events)
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return then
Pipeline.submit, Pipeline.offer = dies(Pipeline.submit), dies(Pipeline.offer)
sys.argv = sys.argv[3:]
sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def killed_after(event_type: str, count: int, words: Sequence[str], folder: Path, **env: str) -> int:
    """Run a script until it has stored so many new events of a type, then kill it; returns its exit code.

    ``words``: the script and its arguments.
    """
    child = subprocess.run(
        [sys.executable, "-c", _KILLER, event_type, str(count), *words], cwd=folder, env=environment(**env),
        check=False, capture_output=True, timeout=100,
    )  # fmt: skip
    if child.returncode >= 0:
        sys.stderr.write(child.stderr.decode(errors="replace")[-5000:])
    return child.returncode
