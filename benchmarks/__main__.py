"""Run the cases and print their tables: ``python -m benchmarks [--quick] [--json] [CASE…]``.

Without CASE and without ``--quick`` the results are written to ``benchmarks/results``, and the
pictures and the README's table are made from them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.update(CREWAI_DISABLE_TELEMETRY="true", CREWAI_TRACING_ENABLED="false", OTEL_SDK_DISABLED="true")

import msgspec

from benchmarks import plots, readme, report, results
from benchmarks.cases import CASES
from benchmarks.timing import Scale


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen cases in a temporary folder; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"one of {', '.join(CASES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer events: within a minute, rougher, nothing written")
    parser.add_argument("--smoke", action="store_true", help="as few as possible: only to see that everything runs")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    parser.add_argument("--out", type=Path, help="write results and pictures to this folder, and leave the README")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.cases) - set(CASES))
    if unknown:
        parser.error(f"no case {unknown[0]!r}; there are {', '.join(CASES)}")
    scale: Scale = "smoke" if options.smoke else "quick" if options.quick else "full"
    names = options.cases or list(CASES)
    made = [_run(name, scale, is_quiet=options.json) for name in names]
    if options.json:
        print(json.dumps([msgspec.to_builtins(one) for one in made], indent=2, ensure_ascii=False))
    if options.out or scale == "full":
        _keep(made, options.out or results.FOLDER, is_record=options.out is None)
    return 0


def _run(name: str, scale: Scale, *, is_quiet: bool) -> results.Result:
    """Run one case in a folder of its own, which goes with it: some cases need gigabytes."""
    print(f"{name} …", file=sys.stderr, flush=True)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="eventlog-bench-") as folder:
        os.environ["CREWAI_STORAGE_DIR"] = str(Path(folder) / "crewai")
        facts = report.environment(Path(folder))
        tables = CASES[name](Path(folder), scale)
    if not is_quiet:
        print(f"\n=== {name}: {', '.join(f'{k} {v}' for k, v in facts.items())}")
        report.show(tables)
    print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return results.result(name, scale, facts, tables)


def _keep(made: list[results.Result], folder: Path, *, is_record: bool) -> None:
    """Write results and pictures; of those of record the README's table, too."""
    for one in made:
        results.write(folder, one)
    plots.draw_all(folder, made)
    if is_record:
        readme.renew(results.read_all(folder))
    print(f"written to {folder}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
