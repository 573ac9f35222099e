"""Run the cases, all or some, and print their tables.

A whole run, without ``--quick``, writes the results of its cases to ``benchmarks/results``, draws their pictures, and
renews the README's table. Each case is written when it ends.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.update(CREWAI_DISABLE_TELEMETRY="true", CREWAI_TRACING_ENABLED="false", OTEL_SDK_DISABLED="true")

import msgspec

from benchmarks import plots, readme, report, results
from benchmarks.cases import CASES
from benchmarks.timing import Scale

_places: list[Path] = []
"""Folders of the case that runs."""


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen cases in a temporary folder; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"one of {', '.join(CASES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer events: within a minute, rougher, not written")
    parser.add_argument("--smoke", action="store_true", help="as few as possible: only to see that everything runs")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    parser.add_argument("--out", type=Path, help="write results and pictures to this folder, and leave the README")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.cases) - set(CASES))
    if unknown:
        parser.error(f"no case {unknown[0]!r}; there are {', '.join(CASES)}")
    scale: Scale = "smoke" if options.smoke else "quick" if options.quick else "full"
    folder: Path | None = options.out or (results.FOLDER if scale == "full" else None)
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            parser.error(f"--out {folder}: {error.strerror}")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    made = []
    for name in options.cases or CASES:
        made.append(_run(name, scale, is_quiet=options.json))
        if folder is not None:
            _keep(made[-1], folder, is_record=options.out is None)
    if options.json:
        print(json.dumps([msgspec.to_builtins(one) for one in made], indent=2, ensure_ascii=False))
    return 0


def _end(number: int, _frame: Any) -> None:
    """Leave at once: what is raised in the middle of a garbage collection would be lost."""
    for place in _places:
        shutil.rmtree(place, ignore_errors=True)
    print("stopped", file=sys.stderr, flush=True)
    os._exit(128 + number)


def _run(name: str, scale: Scale, *, is_quiet: bool) -> results.Result:
    """Run one case in a folder of its own, which goes with it: some cases need gigabytes."""
    print(f"{name} …", file=sys.stderr, flush=True)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="eventlog-bench-") as place:
        folder = Path(place)
        _places[:] = [folder]
        os.environ["CREWAI_STORAGE_DIR"] = str(folder / "crewai")
        facts = report.environment(folder)
        tables = CASES[name](folder, scale)
    if not is_quiet:
        print(f"\n=== {name}: {', '.join(f'{k} {v}' for k, v in facts.items())}")
        report.show(tables, is_rough=scale != "full")
    print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return results.result(name, scale, facts, tables)


def _keep(made: results.Result, folder: Path, *, is_record: bool) -> None:
    """Write a result and its pictures; if it is one of record, the README's table, too."""
    results.write(folder, made)
    plots.draw_all(folder, [made])
    if is_record:
        readme.renew(results.read_all(folder))
    print(f"written to {folder}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
