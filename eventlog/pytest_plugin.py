"""Record what a test's crews and flows do once, and replay it for free ever after.

::

    def test_advice(eventlog_run):
        result = eventlog_run.kickoff(make_crew(), inputs={"tea": "oolong"})
        assert "oolong" in result.raw

``pytest --eventlog-record`` asks the models and tools once and writes
``recordings/test_shop/test_advice.db`` beside the test's file, to be committed. Without it the test
replays: all code runs, every model call, tool use and human answer comes from the recording, and a
question that is not in it, or an event that differs, fails the test.

Nothing of CrewAI or of the rest of this library is imported before a test asks for the fixture.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from eventlog.resume.outcome import Reexecution
    from eventlog.resume.reexecute import RunReexecutor
    from eventlog.run import Run

RUN = "test"
"""Name of the run in every recording."""
RECORD, REPLAY = "--eventlog-record", "--eventlog-replay"
FOLDER = "eventlog_recordings"
NAME_CHARS_MAX = 100
SHOWN_CHARS_MAX = 2_000
PAGE_BYTES = 1024
"""Of a recording: most of its thirty tables and indices hold a few rows."""
_passed = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what the plugin can be told."""
    group = parser.getgroup("eventlog", "recorded crews and flows")
    group.addoption(RECORD, action="store_true", help="Run live and (re)write the recordings of eventlog_run.")
    group.addoption(
        REPLAY, action="store_true",
        help="Run from the recordings alone, which is also the default; a missing or different one fails the test.",
    )  # fmt: skip
    parser.addini(FOLDER, "Folder of the recordings, beside each test file.", default="recordings")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse two answers to one question.

    Raises:
        pytest.UsageError: both options are given.
    """
    if config.getoption(RECORD) and config.getoption(REPLAY):
        raise pytest.UsageError(f"{RECORD} and {REPLAY} exclude each other")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Take note of whether a test passed: only then its recording must have been used up."""
    yield
    if call.when == "call":
        item.stash[_passed] = call.excinfo is None


@pytest.fixture
def eventlog_run(request: pytest.FixtureRequest) -> Iterator[EventLogRun]:
    """What runs crews, flows, agents and tasks: live with ``--eventlog-record``, else from the recording."""
    config = request.config
    path = recording_path(request.path, request.node, config.getini(FOLDER))
    hint = f"record it: pytest {RECORD} {request.node.nodeid!r}"
    with ExitStack() as stack:
        if config.getoption(RECORD):
            yield Recording(stack, path)
            return
        if not path.exists():
            pytest.fail(f"{request.node.name} has no recording at {path}\n{hint}", pytrace=False)
        replaying = Replaying(stack, path, hint)
        yield replaying
        replaying.finish(passed=request.node.stash.get(_passed, False))


def recording_path(file: Path, node: pytest.Item, folder: str) -> Path:
    """Return where the recording of a test lies: ``FOLDER/MODULE/TEST.db``, with the class and the parameters."""
    owner = getattr(node, "cls", None)
    name = f"{owner.__name__}.{node.name}" if owner is not None else node.name
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-")[:NAME_CHARS_MAX]
    if plain != name:  # two names must not become one
        plain += "-" + blake2b(name.encode("utf-8", "replace"), digest_size=3).hexdigest()
    return file.parent / folder / file.stem / f"{plain}.db"


class EventLogRun:
    """What a test gets: runs live, or from the recording."""

    def kickoff(self, entity: Any, *args: Any, **kwargs: Any) -> Any:
        """Return what ``entity.kickoff(…)`` returns; of a task, ``execute_sync``."""
        return self._call(entity, "execute_sync" if _is_task(entity) else "kickoff", args, kwargs)

    async def akickoff(self, entity: Any, *args: Any, **kwargs: Any) -> Any:
        """Return what ``await entity.akickoff(…)`` returns; of a task, ``aexecute_sync``."""
        return await self._await(entity, "aexecute_sync" if _is_task(entity) else "akickoff", args, kwargs)

    def kickoff_for_each(self, crew: Any, inputs: list[Any], **kwargs: Any) -> list[Any]:
        """Return what ``crew.kickoff_for_each(inputs)`` returns."""
        return list(self._call(crew, "kickoff_for_each", (), {"inputs": inputs, **kwargs}))

    async def akickoff_for_each(self, crew: Any, inputs: list[Any], **kwargs: Any) -> list[Any]:
        """Return what ``await crew.akickoff_for_each(inputs)`` returns."""
        return list(await self._await(crew, "akickoff_for_each", (), {"inputs": inputs, **kwargs}))

    @contextmanager
    def directed(self) -> Iterator[None]:
        """Take the plain kickoffs and model calls in a block: for code that does not know of the fixture."""
        yield

    @property
    def results(self) -> list[Reexecution]:
        """What came of each replayed kickoff; nothing while recording."""
        return []

    def _call(self, entity: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method where its kickoffs are taken."""
        with self.directed():
            return getattr(entity, name)(*args, **kwargs)

    async def _await(self, entity: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call an asynchronous method where its kickoffs are taken."""
        with self.directed():
            result: Awaitable[Any] = getattr(entity, name)(*args, **kwargs)
            return await result


class Recording(EventLogRun):
    """Runs live and writes the recording at the end of the test."""

    def __init__(self, stack: ExitStack, path: Path) -> None:
        """Record into a temporary folder: an interrupted session leaves the old recording as it was."""
        import tempfile  # noqa: PLC0415 - for who records

        from eventlog.log import open_log  # noqa: PLC0415 - a session without recordings needs none of it

        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eventlog-")))
        log = open_log(folder / "live.db", snapshot_on=())
        stack.push(lambda kind, _error, _trace: self._write(kind, folder / "live.db", path))
        stack.callback(log.close)
        self._run: Run = stack.enter_context(log.run(RUN))
        self._run.forget_command()

    @contextmanager
    def directed(self) -> Iterator[None]:
        """Record what is kicked off in a block."""
        with self._run.directed():
            yield

    @staticmethod
    def _write(interrupted: Any, live: Path, path: Path) -> None:
        """Write the recording as one small file, in one step."""
        if interrupted is not None and not issubclass(interrupted, Exception):
            return
        import os  # noqa: PLC0415
        import sqlite3  # noqa: PLC0415
        from contextlib import closing  # noqa: PLC0415

        path.parent.mkdir(parents=True, exist_ok=True)
        small = path.with_suffix(f".{os.getpid()}.tmp")
        small.unlink(missing_ok=True)
        with closing(sqlite3.connect(live)) as db:
            db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            db.execute("VACUUM INTO ?", (str(small),))
        with closing(sqlite3.connect(small)) as db:
            db.execute("PRAGMA journal_mode = DELETE")  # a reader in WAL mode would leave files beside it
        small.replace(path)


class Replaying(EventLogRun):
    """Runs from the recording alone."""

    def __init__(self, stack: ExitStack, path: Path, hint: str) -> None:
        """Open the recording; it is only read."""
        from eventlog.log import open_log  # noqa: PLC0415 - a session without recordings needs none of it

        self._hint, self._told = hint, 0
        log = stack.enter_context(open_log(path, readonly=True))
        self._again: RunReexecutor = stack.enter_context(log.reexecuting(RUN))

    @property
    def results(self) -> list[Reexecution]:
        """What came of each replayed kickoff."""
        return self._again.results

    @contextmanager
    def directed(self) -> Iterator[None]:
        """Replay what is kicked off in a block; a difference fails the test."""
        from eventlog.resume.divergence import DivergedError  # noqa: PLC0415

        with self._again.here():
            try:
                yield
            except DivergedError:
                self._tell()
                raise
        self._tell()

    def finish(self, *, passed: bool) -> None:
        """Fail a test that passed though it did something else, or less, than what is recorded."""
        if not passed:
            return
        self._tell()
        missing = ", ".join(f"{e.kind} {e.name}" for e in self._again.missing)
        if missing:
            pytest.fail(f"recorded, but not kicked off by the test: {missing}\n{self._hint}", pytrace=False)

    def _tell(self) -> None:
        """Fail the test with the first difference nobody was told of."""
        outcomes = self._again.outcomes
        news, self._told = outcomes[self._told :], len(outcomes)
        for result in news:
            if not result:
                pytest.fail(f"{_explained(result)}\nif that is meant, {self._hint}", pytrace=False)


def _explained(result: Reexecution) -> str:
    """Return where a kickoff first did something else than recorded, in a few lines."""
    from eventlog.resume.outcome import shown  # noqa: PLC0415

    lines = [
        ("not what is recorded", f"{result.diverged_at}"),
        ("there", result.at),
        ("recorded", shown(result.expected)[:SHOWN_CHARS_MAX]),
        ("now", shown(result.actual)[:SHOWN_CHARS_MAX]),
        ("definition", result.changed or ""),
    ]
    return "\n".join(f"{name + ':':22}{text}" for name, text in lines if text)


def _is_task(entity: Any) -> bool:
    """Whether something is a task: it has no ``kickoff``."""
    from eventlog.references import kind_of  # noqa: PLC0415

    return kind_of(entity) == "task"
