"""The README's table of goals, made from the results."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.results import Result

BEGIN, END = "<!-- benchmarks: made by `make bench` -->", "<!-- /benchmarks -->"
README = Path(__file__).parent.parent / "README.md"


def table_of(results: Iterable[Result]) -> str:
    """Return the goals of all results as a Markdown table, with what they were measured on."""
    found = list(results)
    lines = ["| Case | Goal | Wanted | Measured | Reached |", "|---|---|---:|---:|---|"]
    lines += [f"| {r.case} | {' | '.join(goal.line())} |" for r in found for goal in r.goals]
    machines: dict[str, list[str]] = {}
    for one in found:
        machines.setdefault(", ".join(f"{k} {v}" for k, v in one.environment.items()), []).append(one.case)
    each = {machine: f"{', '.join(cases)}: measured with {machine}." for machine, cases in sorted(machines.items())}
    where = each.values() if len(machines) > 1 else [f"Measured with {machine}." for machine in machines]
    return "\n".join([*lines, "", *where])


def with_table(text: str, table: str) -> str:
    """Return the README with the table between its marks.

    Raises:
        ValueError: the marks are not there.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the README has no lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def renew(results: Iterable[Result], path: Path = README) -> None:
    """Put the table of the results into the README."""
    path.write_text(with_table(path.read_text(encoding="utf-8"), table_of(results)), encoding="utf-8")
