"""A small file that wants to become a large one, or never to end: cycles, explosions, depths, sizes."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import queue
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import eventlog
from eventlog.cli.main import run as command
from tests.integration.hostile import make_log, put_content, put_payload, tamper

MEMORY_BYTES_MAX = 1_500_000_000
SECONDS_MAX = 60
"""Of one command; among them one that loads CrewAI, on a busy machine."""
COMMANDS = (
    ("log", "--json"), ("log",), ("show", "1"), ("show", "1", "--json"), ("replay", "r"), ("stats",), ("runs",),
    ("branches", "r"), ("log", "r", "--grep", "needle"), ("export", "r", "-o", "-"), ("doctor", "--no-probe"),
    ("verify", "--deep"), ("diff", "r", "r@1"), ("replay", "r", "--json"), ("resume", "r"), ("fork", "r", "--to", "1"),
    ("export", "r", "--format", "crewai-checkpoint", "-o", "checkpoint.json"), ("compact", "--max-checkpoints", "0"),
)  # fmt: skip


def _limited(path: str, folder: str, commands: tuple[tuple[str, ...], ...], results: Any) -> None:
    """Run command lines in a process with little memory, and tell their exit codes and what they wrote to stderr."""
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    for words in commands:
        began, errors = time.monotonic(), io.StringIO()
        place = os.open(os.devnull, os.O_WRONLY)
        os.dup2(place, 1)
        with contextlib.redirect_stderr(errors):
            code = command([*words, "--db", path])
        results.put((words, code, errors.getvalue()[-400:], time.monotonic() - began))
    results.put(None)


def outcomes(path: Path, commands: tuple[tuple[str, ...], ...] = COMMANDS) -> dict[tuple[str, ...], tuple[int, str]]:
    """Return exit code and errors of each command line on a log; one that does not end in time is missing."""
    fresh = multiprocessing.get_context("spawn")  # a fork would have the memory of this process, too
    results: Any = fresh.Queue()
    child = fresh.Process(target=_limited, args=(str(path), str(path.parent), commands, results))
    child.start()
    found: dict[tuple[str, ...], tuple[int, str]] = {}
    try:
        with suppress(queue.Empty):
            while (line := results.get(timeout=SECONDS_MAX)) is not None:
                words, code, said, _ = line
                found[words] = (code, said)
    finally:
        child.kill()
        child.join()
    return found


def assert_harmless(path: Path, commands: tuple[tuple[str, ...], ...] = COMMANDS) -> None:
    """Every reading command ends in time, in little memory, with a code of ours and without an unexpected error."""
    found = outcomes(path, commands)

    assert [words for words in commands if words not in found] == [], "did not end in time, or took the process along"
    assert {words: out for words, out in found.items() if out[0] not in (0, 1, 3)} == {}
    assert {words: out for words, out in found.items() if "should not happen" in out[1]} == {}


def a_message_that_is_its_own_parent(path: Path) -> Path:
    """Put a message that is its own parent into a log."""
    put_content(path, "loop", "message", '{"role":"user","content":"needle not"}')
    tamper(path, "UPDATE contents SET parent = id WHERE hash = 'loop'")
    return put_payload(path, '{"messages":{"$content":"loop","n":3}}')


def messages_in_a_circle(path: Path) -> Path:
    """Put messages in a circle into a log."""
    for name in ("a", "b", "c"):
        put_content(path, name, "message", '{"role":"user","content":"x"}')
    for name, parent in (("a", "b"), ("b", "c"), ("c", "a")):
        tamper(
            path, f"UPDATE contents SET parent = (SELECT id FROM contents WHERE hash='{parent}') WHERE hash='{name}'"
        )
    return put_payload(path, '{"messages":{"$content":"a","n":3}}')


def pieces_of_themselves(path: Path) -> Path:
    """Put pieces of themselves into a log."""
    put_content(path, "self", "pieces", '["x",{"$content":"self"}]')
    return put_payload(path, '{"text":{"$content":"self"}}')


def pieces_of_each_other(path: Path) -> Path:
    """Put pieces of each other into a log."""
    put_content(path, "one", "pieces", '[{"$content":"two"},{"$content":"two"}]')
    put_content(path, "two", "pieces", '[{"$content":"one"},{"$content":"one"}]')
    return put_payload(path, '{"text":{"$content":"one"}}')


def pieces_that_explode(path: Path) -> Path:
    """Put pieces that explode into a log."""
    put_content(path, "p0", "text", "lol" * 1000)
    for n in range(1, 50):
        put_content(path, f"p{n}", "pieces", json.dumps([{"$content": f"p{n - 1}"}] * 10))
    return put_payload(path, '{"text":{"$content":"p49"}}')


def trees_that_explode(path: Path) -> Path:
    """Put trees that explode into a log."""
    put_content(path, "t0", "json", '"' + "lol" * 1000 + '"')
    for n in range(1, 50):
        put_content(path, f"t{n}", "json", json.dumps([{"$content": f"t{n - 1}"}] * 10))
    return put_payload(path, '{"text":{"$content":"t49"}}')


def a_large_text_many_times(path: Path) -> Path:
    """Put a large text many times into a log."""
    put_content(path, "big", "text", "x" * 30_000_000)
    return put_payload(path, json.dumps({"all": [{"$content": "big"}] * 20_000}))


def a_tree_that_holds_itself(path: Path) -> Path:
    """Put a tree that holds itself into a log."""
    put_content(path, "tree", "json", '{"a":{"$content":"tree"},"b":{"$content":"tree"}}')
    return put_payload(path, '{"text":{"$content":"tree"}}')


def a_deep_payload(path: Path) -> Path:
    """Put a deep payload into a log."""
    return put_payload(path, '{"a":' + "[" * 500_000 + "]" * 500_000 + "}")


def a_rather_deep_payload(path: Path) -> Path:
    """Put a rather deep payload into a log."""
    return put_payload(path, '{"a":' + '{"b":[' * 450 + "1" + "]}" * 450 + "}")


def deep_contents_in_deep_contents(path: Path) -> Path:
    """Put deep contents in deep contents into a log."""
    put_content(path, "d0", "json", '"x"')
    for n in range(1, 40):
        put_content(path, f"d{n}", "json", "[" * 240 + json.dumps({"$content": f"d{n - 1}"}) + "]" * 240)
    return put_payload(path, '{"text":{"$content":"d39"}}')


def a_path_that_leads_to_itself(path: Path) -> Path:
    """Put a path that leads to itself into a log."""
    tamper(path, "INSERT INTO paths (id, parent, label) VALUES (900, 901, 'a'), (901, 900, 'b'), (902, 902, 'c')")
    return tamper(path, "UPDATE events SET path = 900 WHERE seq = 1", "UPDATE executions SET path = 902")


def a_root_that_is_its_own_parent(path: Path) -> Path:
    """Put a root that is its own parent into a log."""
    return tamper(path, "INSERT INTO paths (id, parent, label) VALUES (0, 0, 'crew:x#0')")


def branches_in_a_circle(path: Path) -> Path:
    """Put branches in a circle into a log."""
    with eventlog.open(path) as log:
        log.fork("r", branch="b")
        log.fork("r", branch="c", parent="b")
    tamper(
        path, "UPDATE branches SET parent = (SELECT id FROM branches WHERE name = 'c'), fork_seq = 1 WHERE name = 'b'"
    )
    return tamper(path, "UPDATE branches SET parent = id, fork_seq = 1 WHERE name = 'main' AND run > 0")


def a_huge_number(path: Path) -> Path:
    """Put a huge number into a log."""
    return put_payload(path, '{"a":' + "9" * 1_000_000 + ',"b":{"$int":"' + "9" * 1_000_000 + '"}}')


def times_without_end(path: Path) -> Path:
    """Put times without end into a log."""
    return tamper(
        path, "UPDATE events SET at_ns = 9223372036854775807", "UPDATE runs SET created_ns = -9223372036854775808"
    )


def no_json_at_all(path: Path) -> Path:
    """Put no json at all into a log."""
    return put_payload(path, "\x1b]0;evil\x07 {not json")


BOMBS: tuple[Callable[[Path], Path], ...] = (
    a_message_that_is_its_own_parent, messages_in_a_circle, pieces_of_themselves, pieces_of_each_other,
    pieces_that_explode, trees_that_explode, a_large_text_many_times, a_tree_that_holds_itself, a_deep_payload,
    a_rather_deep_payload, deep_contents_in_deep_contents, a_path_that_leads_to_itself, a_root_that_is_its_own_parent,
    branches_in_a_circle, a_huge_number, times_without_end, no_json_at_all,
)  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.__name__)
def test_reading_it_ends_soon_and_in_little_memory(bomb: Callable[[Path], Path], tmp_path: Path) -> None:
    """Whatever the rows refer to: no command hangs, eats the memory, or ends otherwise than told."""
    path = bomb(make_log(tmp_path / "x.db", [{"text": "first"}, {"text": "second"}]))

    assert_harmless(path)
