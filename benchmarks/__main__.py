"""Run the cases and print their tables: ``python -m benchmarks [--quick] [--json] [CASE…]``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.update(CREWAI_DISABLE_TELEMETRY="true", CREWAI_TRACING_ENABLED="false", OTEL_SDK_DISABLED="true")

from benchmarks import bench_append, bench_capture, bench_compaction, bench_growth, report

CASES = {
    "capture": bench_capture.run,
    "append": bench_append.run,
    "growth": bench_growth.run,
    "compaction": bench_compaction.run,
}


def main() -> int:
    """Run the chosen cases in a temporary folder; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"one of {', '.join(CASES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer events: under a minute, rougher")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    options = parser.parse_args()
    unknown = sorted(set(options.cases) - set(CASES))
    if unknown:
        parser.error(f"no case {unknown[0]!r}; there are {', '.join(CASES)}")
    tables = []
    with tempfile.TemporaryDirectory(prefix="eventlog-bench-") as folder:
        for name in options.cases or CASES:
            print(f"{name} …", file=sys.stderr, flush=True)
            tables.append(CASES[name](Path(folder), quick=options.quick))
        report.show(tables, report.environment(Path(folder)), as_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
