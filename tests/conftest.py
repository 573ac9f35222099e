"""Offline, isolated, reproducible: what holds for every test.

The environment is set when pytest loads this file, which is before any test imports CrewAI.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

OFFLINE = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_TRACKING": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "CREWAI_STORAGE_DIR": tempfile.mkdtemp(prefix="eventlog-tests-"),
    "OTEL_SDK_DISABLED": "true",
}
"""What keeps CrewAI from the network and out of the user's data folder."""

os.environ.update(OFFLINE)
atexit.register(shutil.rmtree, OFFLINE["CREWAI_STORAGE_DIR"], ignore_errors=True)

for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:  # started in the background, or by nohup: children would inherit it
        signal.signal(number, usual)

settings.register_profile("dev", deadline=None)
settings.register_profile(
    "ci",
    deadline=None,  # a busy machine is no bug
    derandomize=True,  # a failure that nobody can repeat teaches nothing
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev"))


@pytest.fixture(autouse=True)
def own_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test CrewAI storage of its own: CrewAI keeps the latest task outputs in a file there."""
    monkeypatch.setenv("CREWAI_STORAGE_DIR", str(tmp_path / "crewai"))


@pytest.fixture(autouse=True)
def no_leaked_scopes() -> Iterator[None]:
    """Empty CrewAI's stack of open event scopes after each test.

    After a ``BaseException`` CrewAI leaves it as it was, and the next kickoff claims to be part of the dead one.
    """
    yield
    if "crewai" in sys.modules:
        from crewai.events.event_context import restore_event_scope

        restore_event_scope(())
