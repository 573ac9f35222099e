"""A log with a whole run in it, made once."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli_world import DEMO_CREW, RUN, Cli, environment, finish
from tests.repairing import Facts, facts_in


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record the demonstration's crew to its end, by the command line."""
    folder = tmp_path_factory.mktemp("recorded")
    env = environment(DEMO_SECONDS_PER_CALL="0", CREWAI_STORAGE_DIR=str(folder / "crewai"))
    result = finish("record", "--db", folder / "eventlog.db", "--run", RUN, DEMO_CREW, env=env)

    assert result.code == 0, result.err
    return folder / "eventlog.db"


@pytest.fixture
def db(recorded: Path, tmp_path: Path) -> Path:
    """A copy of that log for this test alone."""
    return Path(shutil.copy(recorded, tmp_path / "eventlog.db"))


@pytest.fixture
def cli(db: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line on that copy."""
    return Cli(db, capsys)


@pytest.fixture
def model_server() -> Iterator[ThreadingHTTPServer]:
    """A stub of a model's service on a free local port; ``RequestHandlerClass.requests`` holds what it was asked."""
    from tests.integration.test_openai_client import Stub

    handler = type("OwnStub", (Stub,), {"requests": []})
    stub = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=stub.serve_forever)
    thread.start()
    yield stub
    stub.shutdown()
    thread.join()
    stub.server_close()


@pytest.fixture(scope="session")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with something of everything, made once."""
    from tests.damage import grown_log

    return grown_log(tmp_path_factory.mktemp("grown") / "log.db")


@pytest.fixture(scope="session")
def good(grown: Path) -> Facts:
    """What is in it."""
    return facts_in(grown)


@pytest.fixture
def bad(grown: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copy(grown, tmp_path / "bad.db"))
