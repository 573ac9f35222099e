"""The cases by name, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks import bench_append, bench_calls, bench_capture, bench_memory, bench_read, bench_size, bench_work
from benchmarks.report import Table
from benchmarks.timing import Scale

CASES: dict[str, Callable[[Path, Scale], list[Table]]] = {
    "capture": bench_capture.run,
    "calls": bench_calls.run,
    "append": bench_append.run,
    "size": bench_size.run,
    "read": bench_read.run,
    "work": bench_work.run,
    "memory": bench_memory.run,
}
