"""Who has a branch of a run open: enough facts about a process to know later whether it still lives."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path

import msgspec


class Owner(msgspec.Struct, frozen=True):
    """A process on a host, told apart from a later one with the same pid."""

    host: str
    boot: str
    """Id of the host's boot; empty where the system does not tell."""
    pid: int
    started: str
    """When the process started, in the system's own unit; empty where the system does not tell."""


def _read(path: str) -> str:
    """Return a small file's text, or nothing."""
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """Return the start time of a process (field 22 of its stat, after the name in parentheses)."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in "ZX" else ""


@cache
def _this_process(pid: int) -> Owner:
    """Facts of this process; ``pid`` is the key because a fork changes them."""
    return Owner(socket.gethostname(), _read("/proc/sys/kernel/random/boot_id"), pid, _start_time(pid))


def this_process() -> Owner:
    """Return the owner that we are."""
    return _this_process(os.getpid())


def read_owner(text: str | None) -> Owner | None:
    """Return an owner as ``branches.owner`` keeps it; none when there is none, or it cannot be read."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=Owner)
    except msgspec.MsgspecError:
        return None


def describe(owner: Owner) -> str:
    """Return who an owner is, for people."""
    return f"process {owner.pid} on {owner.host or 'an unnamed host'}"


def is_alive(owner: Owner) -> bool:
    """Whether the process still runs; a process on another host is taken to be alive."""
    here = this_process()
    if owner.host != here.host:
        return True
    if owner.boot != here.boot:
        return False
    if here.started:
        return _start_time(owner.pid) == owner.started
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def living_owner(text: str | None, until_ns: int | None, now_ns: int) -> Owner | None:
    """Return a stored owner that still counts, else ``None``.

    A process of this host counts while it lives. One of another host nobody can see: it counts until the lease it
    does not renew expires; without a lease, always.
    """
    owner = read_owner(text)
    if owner is None or not is_alive(owner):
        return None
    is_over = until_ns is not None and until_ns < now_ns
    return None if is_over and owner.host != this_process().host else owner
