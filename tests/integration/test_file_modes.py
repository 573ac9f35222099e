"""Every file is its owner's alone, is the file that was meant, and takes the place of no other."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import eventlog
from eventlog import cli as cli_package
from eventlog.errors import LogNotFoundError, LogOpenError, LogUnwritableError, NotAnEventLogError
from tests.cli_world import RUN, Cli
from tests.integration.hostile import make_log
from tests.verifying import query

# -- modes -------------------------------------------------------------------------------------------


@pytest.fixture
def no_umask() -> Iterator[None]:
    """Take away nothing from the modes of new files."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes_in(folder: Path) -> dict[str, str]:
    """Return the modes of all regular files in a folder that others may do something with."""
    found = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in folder.iterdir() if path.is_file()}
    return {name: oct(mode) for name, mode in found.items() if mode & 0o077}


def names_in(folder: Path) -> set[str]:
    """Return what is in a folder."""
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def watched(no_umask: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], tuple[set[str], dict[str, str]]]:
    """Look at a folder whenever something reaches the disk there, or a command tells how far it is."""
    names, open_to_others, folders = set[str](), dict[str, str](), list[Path]()

    def look() -> None:
        for folder in folders:
            names.update(path.name for path in folder.iterdir())
            open_to_others.update(modes_in(folder))

    def looking(real: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            look()
            result = real(*args, **kwargs)
            look()
            return result

        return wrapped

    @contextmanager
    def phases() -> Generator[Callable[[str, int], None]]:
        yield lambda _what, _count: look()

    monkeypatch.setattr(os, "fsync", looking(os.fsync))
    monkeypatch.setattr(Path, "replace", looking(Path.replace))
    monkeypatch.setattr(Path, "unlink", looking(Path.unlink))
    for module in ("backup", "repair", "compact"):
        __import__(f"{cli_package.__name__}.{module}")
        monkeypatch.setattr(getattr(cli_package, module), "phases", phases)

    def start(folder: Path) -> tuple[set[str], dict[str, str]]:
        folders.append(folder)
        return names, open_to_others

    return start


def test_a_log_and_its_neighbours_are_private_from_the_first_moment(tmp_path: Path, no_umask: None) -> None:
    """Whatever the umask is. Seen to fail: with 0o666 in ``_create_private``."""
    with eventlog.open(tmp_path / "x.db") as log:
        log.append("a.note", {"n": 1}, run="r")
        seen = {path.name for path in tmp_path.iterdir()}

        assert modes_in(tmp_path) == {}
        assert seen >= {"x.db", "x.db-wal", "x.db-shm"}


def test_everything_that_is_made_of_a_log_is_private(
    db: Path, capsys: pytest.CaptureFixture[str], watched: Callable[[Path], tuple[set[str], dict[str, str]]]
) -> None:
    """Exports, checkpoints, archives, backups, repaired logs, their WALs, and what they are called until they are done.

    Seen to fail: with ``Path.open`` instead of ``mkstemp`` in ``_write``.
    """
    folder, cli = db.parent, Cli(db, capsys)
    names, open_to_others = watched(folder)
    db.chmod(0o600)  # a copy has the mode of its copyist
    for words in (
        ["export", RUN, "-o", folder / "x.jsonl"],
        ["export", RUN, "-o", folder / "x.jsonl", "--force"],
        ["export", RUN, "--format", "crewai-checkpoint", "-o", folder / "c.json"],
        ["backup", folder / "b.db"],
        ["repair", "--into", folder / "r.db"],
        ["forget", "--event", "3"],
        ["compact", "--max-checkpoints", "0", "--archive", folder / "a.db"],
        ["import", folder / "x.jsonl", "--as", "copy"],
    ):
        assert cli(*words).code == 0, words
    assert Cli(folder / "new.db", capsys)("import", folder / "x.jsonl").code == 0

    assert modes_in(folder) == {}
    assert open_to_others == {}
    assert {"x.jsonl", "c.json", "b.db", "r.db", "a.db", "a.db-wal", "a.db-shm", "new.db"} <= names | names_in(folder)
    assert [name for name in names if name.startswith(".b.db.") and name.endswith(".part")]
    assert [name for name in names if name.startswith(".x.jsonl.")]
    assert not [name for name in names_in(folder) if name.startswith(".")]


def test_doctor_tells_of_a_log_that_others_can_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mode that somebody chose is left alone, and called what it is."""
    path = make_log(tmp_path / "x.db")
    path.chmod(0o644)
    eventlog.open(path).close()

    result = Cli(path, capsys)("doctor", "--no-probe")

    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert result.code == 1
    assert "chmod 600" in result.err


# -- what a path leads to ----------------------------------------------------------------------------


def test_a_link_to_a_log_is_that_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The WAL lies beside the file, not beside the link; whoever uses either name sees the same."""
    (tmp_path / "real").mkdir()
    real, link = make_log(tmp_path / "real" / "x.db"), tmp_path / "link.db"
    link.symlink_to(real)
    with eventlog.open(link) as log:
        log.append("a.note", {"n": 2}, run="r")

        assert (tmp_path / "real" / "x.db-wal").exists()
        assert names_in(tmp_path) == {"real", "link.db"}
        for path in (real, link):
            assert len(Cli(path, capsys)("log", "--json").out.splitlines()) == 2
    assert link.is_symlink()
    assert query(real, "SELECT count(*) FROM events") == [(2,)]


def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is made where somebody else chose. Seen to fail: "Permission denied", and neighbours of the link gone."""
    link, neighbour = tmp_path / "link.db", tmp_path / "link.db-wal"
    link.symlink_to(tmp_path / "gone.db")
    neighbour.write_text("x", "utf-8")

    with pytest.raises(LogUnwritableError, match="leads nowhere"):
        eventlog.open(link)
    with pytest.raises(LogNotFoundError):
        eventlog.open(link, readonly=True)
    assert neighbour.read_text("utf-8") == "x"
    assert Cli(link, capsys)("doctor", "--no-probe").code == 1
    assert not (tmp_path / "gone.db").exists()


def make_fifo(path: Path) -> None:
    """Make a pipe that nobody writes to."""
    os.mkfifo(path, 0o644)


def make_device(path: Path) -> None:
    """Make another ``/dev/null``."""
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")
    path.chmod(0o666)


@pytest.mark.parametrize("make", [make_fifo, make_device, Path.mkdir], ids=["pipe", "device", "folder"])
@pytest.mark.parametrize("linked", [False, True], ids=["itself", "a link to it"])
@pytest.mark.timeout(20)
def test_what_is_no_file_is_refused_at_once(
    make: Callable[[Path], None], linked: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By every command, and it stays what it is, mode included.

    Seen to fail: a pipe kept every reader waiting, root gave ``/dev/null`` mode 0600, and export made it a file.
    """
    path = target = tmp_path / "thing"
    make(target)
    if linked:
        path = tmp_path / "link"
        path.symlink_to(target)
    before = target.stat().st_mode
    cli, real = Cli(path, capsys), Cli(make_log(tmp_path / "real.db"), capsys)

    for readonly in (False, True):
        with pytest.raises(LogOpenError) as caught:
            eventlog.open(path, readonly=readonly)
        assert isinstance(caught.value, (NotAnEventLogError, LogUnwritableError))
    commands: tuple[list[object], ...] = (
        ["log"], ["verify"], ["doctor", "--no-probe"], ["repair", "--into", tmp_path / "n.db"],
        ["backup", tmp_path / "b.db"], ["import", path], ["fork", "r", "--to", "1"],
        ["compact", "--max-checkpoints", "0"],
    )  # fmt: skip
    for words in commands:
        assert cli(*words).code == 1
    outputs: tuple[list[object], ...] = (
        ["export", "r", "-o", path], ["export", "r", "-o", path, "--force"], ["backup", path], ["import", path],
        ["repair", "--into", path], ["compact", "--max-checkpoints", "0", "--archive", path],
    )  # fmt: skip
    for words in outputs:
        result = real(*words)
        assert result.code in (1, 2), words
        assert "should not happen" not in result.err
    assert Cli(tmp_path / "new.db", capsys)("import", path).code == 1
    assert target.stat().st_mode == before
    assert names_in(tmp_path) == {"thing", "real.db", *(["link"] if linked else [])}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_a_log_of_another_user_is_not_opened() -> None:
    """Its owner alone may; the other one is told, and nothing is left beside it."""
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        path = make_log(folder / "x.db")
        os.seteuid(65534)
        try:
            for readonly in (False, True):
                with pytest.raises(LogUnwritableError):
                    eventlog.open(path, readonly=readonly)
        finally:
            os.seteuid(0)

        assert names_in(folder) == {"x.db"}
        assert query(path, "SELECT count(*) FROM events") == [(1,)]
    finally:
        shutil.rmtree(folder)


# -- what a path leads out of ------------------------------------------------------------------------

ESCAPES = (
    "../../x",
    "../x",
    "/tmp/evil-x",
    "..",
    "a/../../x",
    "~/x",
    "..\\..\\x",
    "x\x00y",
    "C:\\x",
    "file:///tmp/evil-x",
)


def everything_below(folder: Path) -> set[str]:
    """Return the names of all files below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("name", ESCAPES)
def test_no_name_in_a_log_becomes_a_path(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files are written where the command line says, whatever runs, branches, tasks and contents are called."""
    inner = tmp_path / "a" / "b" / "c"
    (inner / "out").mkdir(parents=True)
    branch = name.replace("/", "|")
    line = {
        "seq": 1,
        "event_id": f"id-{name}",
        "type": f"t.{name}",
        "at_ns": 1,
        "run": name,
        "task_id": name,
        "task_name": name,
        "path": f"/crew:{branch}#0",
        "payload": {"p": {"$path": name}, "output_file": name, "x": {"$map": [["$content", name]]}},
    }
    branches = [{"branch": "main"}, {"branch": branch, "parent": "main", "fork_event_id": f"id-{name}"}]
    runs = [{"run": name, "attribution": "named", "branches": branches}]
    header = {"format": "eventlog-jsonl", "version": 1, "runs": runs}
    (inner / "x.jsonl").write_text(f"{json.dumps(header)}\n{json.dumps(line)}\n", "utf-8")
    cli = Cli(inner / "x.db", capsys)
    refused = tmp_path / "refused.jsonl"
    refused.write_text(f"{json.dumps(header)}\n{json.dumps({**line, 'payload': {'x': {'$content': name}}})}\n", "utf-8")
    assert cli("import", refused).code == 1
    refused.unlink()
    assert cli("import", inner / "x.jsonl").code == 0
    assert cli("export", name, "-o", inner / "out").code == 1
    assert cli("export", name, "-o", inner / "out", "--force").code == 2
    assert cli("export", name, "-o", inner / "out" / "y.jsonl").code == 0
    assert cli("replay", name, "--full").code == 0
    assert cli("compact", "--max-checkpoints", "0", "--archive", inner / "out" / "a.db").code == 0

    files = {f"a/b/c/{path}" for path in ("x.jsonl", "x.db", "x.db-wal", "x.db-shm", "out", "out/y.jsonl", "out/a.db")}
    assert everything_below(tmp_path) - {"a", "a/b", "a/b/c"} <= files
    assert not Path("/tmp/evil-x").exists()


# -- what is there already ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "log", "link", "dangling"])
def test_nothing_takes_the_place_of_what_is_there(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file, another log, a link to one, a link that leads nowhere: each is left as it is, and so is its target."""
    cli, target, other = Cli(make_log(tmp_path / "x.db"), capsys), tmp_path / "target", tmp_path / "other"
    if kind == "log":
        make_log(target)
    elif kind == "file":
        target.write_text("precious", "utf-8")
    else:
        target.symlink_to(other)
        if kind == "link":
            other.write_text("precious", "utf-8")
    before = {path: path.read_bytes() for path in (target, other) if path.exists()}
    commands: tuple[list[object], ...] = (
        ["export", "r", "-o", target], ["export", "r", "--to", "1", "--format", "crewai-checkpoint", "-o", target],
        ["backup", target], ["repair", "--into", target], ["compact", "--max-checkpoints", "0", "--archive", target],
        ["compact", "--max-checkpoints", "0", "--archive", tmp_path / "x.db"],
    )  # fmt: skip

    for words in commands:
        result = cli(*words)
        assert result.code == 1, words
        assert "should not happen" not in result.err
    assert {path: path.read_bytes() for path in (target, other) if path.exists()} == before
    assert target.is_symlink() == (kind in ("link", "dangling"))
    assert everything_below(tmp_path) <= {"x.db", "x.db-wal", "x.db-shm", "target", "other"}


def test_a_forced_export_replaces_a_link_and_not_what_it_leads_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever made the link does not choose what is overwritten."""
    cli, link, other = Cli(make_log(tmp_path / "x.db"), capsys), tmp_path / "link", tmp_path / "other"
    other.write_text("precious", "utf-8")
    link.symlink_to(other)

    assert cli("export", "r", "-o", link, "--force").code == 0
    assert other.read_text("utf-8") == "precious"
    assert not link.is_symlink()
    assert stat.S_IMODE(link.stat().st_mode) == 0o600
