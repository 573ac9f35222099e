"""The command line beside other processes: pipes, terminals, writers at work."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
from pathlib import Path

import pytest

import eventlog
from tests.cli_world import COMMAND, RUN, environment, finish, start


def test_follow_shows_events_of_another_process_as_they_come(db: Path) -> None:
    """Live, in order, each once; Ctrl-C ends it without a word."""
    child = start("log", "--tail", "0", "--follow", "--json", "--db", db)
    assert child.stdout is not None
    with eventlog.open(db) as log:
        seqs = [log.append("live.event", {"n": 0}, run="live")]
        while not select.select([child.stdout], [], [], 0.2)[0]:  # it begins to look when it is loaded
            seqs += [log.append("live.event", {"n": 1}, run="live")]
        seqs += [log.append("live.event", {"n": n}, run="live") for n in range(3)]
        seqs += [log.append("live.event", {"n": 3}, run="another")]
        shown = [json.loads(child.stdout.readline())["seq"]]
        while shown[-1] < seqs[-1]:
            shown += [json.loads(child.stdout.readline())["seq"]]
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=20)

    assert shown == seqs[seqs.index(shown[0]) :]
    assert len(shown) > 4
    assert (child.returncode, out, err) == (130, "", "")


def test_follow_begins_with_what_is_there(db: Path) -> None:
    """``--tail 2 --follow``: the end of the log, then what comes."""
    with eventlog.open(db, readonly=True) as log:
        there = [event.seq for event in log.events(RUN)]
    child = start("log", RUN, "--tail", "2", "--follow", "--limit", "3", "--db", db)
    assert child.stdout is not None
    begin = child.stdout.readline()
    with eventlog.open(db) as log:
        log.append("another.run", {}, run="another")
        last = log.append("same.run", {}, run=RUN)
    out, _ = child.communicate(timeout=20)

    assert [int(line.split()[0]) for line in (begin + out).splitlines()] == [*there[-2:], last]
    assert child.returncode == 0


def test_a_reader_that_leaves_is_no_error(db: Path) -> None:
    """``eventlog log | head -1``: nothing on stderr, the conventional status."""
    with eventlog.open(db) as log:
        log.append_many([("many.events", {"n": n}) for n in range(3000)])
    child = start("log", "--db", db)
    with child:
        if child.stdout:
            child.stdout.readline()
            child.stdout.close()
        err = child.stderr.read() if child.stderr else ""

    assert (child.returncode, err) == (141, "")


def test_stdout_may_be_closed_and_may_speak_latin_only(db: Path) -> None:
    """Odd surroundings are no reason to fail."""
    latin = finish("replay", RUN, "--db", db, encoding="latin-1", env=environment(PYTHONIOENCODING="latin-1"))
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, "runs", "--db", str(db)],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (latin.code, latin.err) == (0, "")
    assert "\\u2013" in latin.out
    assert (closed.returncode, closed.stderr) == (0, "")


def on_a_terminal(*args: str, env: dict[str, str]) -> str:
    """Run a command whose stdout is a terminal and return what it shows."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen([*COMMAND, *args], stdout=theirs, stderr=subprocess.PIPE, env=env)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    child.communicate(timeout=20)
    os.close(ours)
    return shown.decode()


@pytest.mark.parametrize("command", [("runs",), ("log", "--tail", "3"), ("replay", "--to", "20"), ("stats",)])
def test_colours_are_for_terminals_that_want_them(db: Path, command: tuple[str, ...]) -> None:
    """A terminal gets colours, unless NO_COLOR says otherwise; recorded text brings none of its own."""
    with eventlog.open(db) as log:
        log.append("evil.event", {"error": "[bold]\x1b[31mevil"}, run="[red]evil\x1b[31m")
    plain = environment(TERM="xterm", NO_COLOR="1", COLUMNS="200")
    coloured = environment(TERM="xterm", COLUMNS="200")
    coloured.pop("NO_COLOR", None)

    with_colours = on_a_terminal(*command, "--db", str(db), env=coloured)
    without = on_a_terminal(*command, "--db", str(db), env=plain)

    assert "\x1b[" in with_colours
    assert "\x1b" not in without
    if command[0] in {"runs", "log"}:
        assert "[red]evil\\x1b[31m" in with_colours
