"""What users write, checked by mypy (``make check``); never run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typing_extensions import assert_type

import eventlog


def reads(log: eventlog.Log) -> None:
    """Reading gives typed values."""
    assert_type(log.state("r"), eventlog.RunState)
    status: str = log.state("r", to="latest").status
    assert status
    assert_type(log.events("r", types=["llm_*"]), Iterator[eventlog.Event])
    assert_type(log.runs(), list[eventlog.RunInfo])
    assert_type(log.branches("r"), list[eventlog.BranchInfo])
    assert_type(log.status(), eventlog.Status)


def writes(path: str) -> None:
    """Writing takes what the README shows."""
    with eventlog.open(path, durability="fsync", redaction=eventlog.Redaction(values=("s",))) as log:
        assert_type(log.append("a.b", {"n": 1}, run="r", expected_seq=0), int)
        assert_type(log.append_many([("a.b", {}), ("a.c", {})], run="r"), list[int])
        with log.run("r") as run:
            assert_type(run, eventlog.Run)
            assert_type(run.state(), eventlog.RunState)
            assert_type(run.bind(len)("abc"), int)


@eventlog.projection("tokens", version=1, initial=dict)
def tokens(state: Any, event: eventlog.Event) -> Any:
    """A projection of the user's."""
    return {**state, event.type: event.seq}


def projects(log: eventlog.Log) -> None:
    """The decorator gives what ``project`` takes."""
    assert_type(tokens, eventlog.Projection)
    log.project(tokens, "r", to=3)
