"""A disk that fails and a clock that goes wrong: a few lines of C in front of the system's calls, see ``faults.c``.

The library is loaded with ``LD_PRELOAD``; the control file is shared, so a fault can begin and end at any moment,
from inside the process or outside.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import msgspec

OPEN, WRITE, SYNC, TRUNCATE, READ = 1, 2, 4, 8, 16
"""Kinds of calls."""
ALL = OPEN | WRITE | SYNC | TRUNCATE
"""What fails on a disk that takes nothing any more."""

_NUMBERS = struct.Struct("=5i")
_CLOCK = struct.Struct("=i")
_CONTROL, _NAME = "EVENTLOG_FAULTS", "EVENTLOG_FAULTS_NAME"


class Shim(msgspec.Struct, frozen=True):
    """The library, compiled."""

    library: Path
    control: Path

    def environment(self, name: str) -> dict[str, str]:
        """Return what makes a process that is started with it fail on files with ``name`` in their path."""
        preload = f"{self.library} {os.environ.get('LD_PRELOAD', '')}".strip()
        return {"LD_PRELOAD": preload, _CONTROL: str(self.control), _NAME: name}


def build(folder: Path) -> Shim | str:
    """Return the compiled library, or why there is none."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return "there is no C compiler"
    library, source = folder / "faults.so", Path(__file__).with_name("faults.c")
    command = [compiler, "-O1", "-fPIC", "-shared", "-o", str(library), str(source), "-ldl"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        return f"the C compiler does not take {source.name}: {made.stderr[:300]}"
    control = folder / "control"
    control.write_bytes(bytes(_NUMBERS.size + _CLOCK.size))
    return Shim(library, control)


def fail(error: int, calls: int, *, skip: int = 0, left: int = -1) -> None:
    """Begin: calls of some kinds fail with ``error``, after ``skip`` of them worked, ``left`` times (-1: for good)."""
    _exchange(_NUMBERS.pack(error, calls, skip, left, 0))


def heal() -> int:
    """End the fault; returns how many calls failed."""
    hits: int = _NUMBERS.unpack(_exchange(_NUMBERS.pack(0, 0, 0, 0, 0)))[4]
    return hits


def set_clock(seconds: int) -> None:
    """Have the time of day be wrong by so many seconds."""
    with Path(os.environ[_CONTROL]).open("r+b", buffering=0) as file:
        file.seek(_NUMBERS.size)
        file.write(_CLOCK.pack(seconds))


def _exchange(numbers: bytes) -> bytes:
    """Write the control file in place, where processes have it mapped, and return what stood there."""
    with Path(os.environ[_CONTROL]).open("r+b", buffering=0) as file:
        before = file.read(_NUMBERS.size)
        file.seek(0)
        file.write(numbers)
    return before
