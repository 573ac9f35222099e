"""The benchmarks run, and what the README shows is what they measured."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import readme, results
from benchmarks.__main__ import main as benchmarks
from benchmarks.cases import CASES
from benchmarks.report import Curve, Goal, Row, Table, shown
from benchmarks.timing import take_turns

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("case", CASES)
def test_a_smoke_run_writes_results_and_pictures(case: str, tmp_path: Path) -> None:
    """As few events as possible, everything else as in a whole run; the README stays as it is."""
    before = readme.README.read_bytes()
    out = tmp_path / "out"
    command = [sys.executable, "-m", "benchmarks", "--smoke", "--out", str(out), case]
    done = subprocess.run(
        command, check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = results.read_all(out)
    assert found.case == case
    assert found.environment["journal_mode"] == "wal"
    assert all(row["samples"] > 0 for table in found.tables for row in table["rows"])
    pictures = {f"{chart.name}.{ending}" for chart in found.charts for ending in ("png", "svg")}
    assert {path.name for path in out.iterdir()} == {f"{case}.json", *pictures}
    assert readme.README.read_bytes() == before


@pytest.mark.parametrize("out", ["/proc/nope", "a file"])
def test_a_folder_that_cannot_be_had_is_told_before_anything_is_measured(
    out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten minutes are too long to find that out."""
    (tmp_path / "a file").touch()
    with pytest.raises(SystemExit, match="2"):
        benchmarks(["--smoke", "--out", str(tmp_path / out)])

    said = capsys.readouterr().err
    assert "…" not in said
    assert f"error: --out {tmp_path / out}:" in said


def test_an_interrupt_ends_it_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    """Wherever it strikes; its temporary folders go as well."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "benchmarks", "--quick", "append"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while not any(tmp_path.glob("eventlog-bench-*/*.db")) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read() if process.stderr else ""

    assert process.returncode == 130
    assert said.splitlines()[-1] == "stopped"
    assert list(tmp_path.glob("eventlog-bench-*")) == []


def test_the_readme_shows_the_results_of_record() -> None:
    """Its table is made from the files in ``benchmarks/results``, of all cases, at full scale."""
    found = results.read_all(results.FOLDER)
    text = readme.README.read_text("utf-8")

    assert {result.case for result in found} == set(CASES)
    assert {result.scale for result in found} == {"full"}
    assert readme.with_table(text, readme.table_of(found)) == text


def test_the_pictures_of_record_are_there() -> None:
    """Every chart of the results, in both forms."""
    charts = {chart.name for result in results.read_all(results.FOLDER) for chart in result.charts}
    wanted = {f"{chart}.{ending}" for chart in charts for ending in ("png", "svg")}

    assert {path.name for path in results.FOLDER.iterdir() if path.suffix != ".json"} == wanted


def test_a_ratio_is_the_median_over_rounds() -> None:
    """A round that something else disturbed counts once, however long it took."""
    base, other = Row("a", [[1.0], [10.0], [1.0]]), Row("b", [[2.0], [20.0], [9.0]])

    assert other.ratio(base) == 2
    assert Table("t", "µs", [base, other]).ratio("b") == 2


def test_a_slope_is_the_exponent() -> None:
    """1 is linear, 2 quadratic."""
    assert Curve("linear", [(1, 3), (10, 30), (100, 300)]).slope == pytest.approx(1)
    assert Curve("quadratic", [(1, 1), (10, 100)]).slope == pytest.approx(2)


@pytest.mark.parametrize(
    ("measured", "at_least", "reached"),
    [(2.0, False, True), (2.1, False, False), (2.0, True, True), (1.9, True, False)],
)
def test_a_goal_says_whether_it_is_reached(measured: float, at_least: bool, reached: bool) -> None:
    """Upper and lower bounds."""
    assert Goal("x", measured, 2.0, at_least).is_reached is reached


def test_every_variant_has_its_turn_in_every_round_and_the_first_does_not_count() -> None:
    """What warms up is thrown away."""
    seen: list[str] = []

    def variant(name: str) -> list[float]:
        seen.append(name)
        return [float(len(seen))]

    rows = take_turns({"a": lambda _n: variant("a"), "b": lambda _n: variant("b")}, 3)

    assert [len(row.rounds) for row in rows] == [3, 3]
    assert sorted(seen) == ["a"] * 4 + ["b"] * 4
    assert min(sample for row in rows for sample in row.samples) > 2


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345.6, "12,346"), (500, "500"), (12.34, "12.3"), (1.234, "1.23"), (0.01234, "0.0123"), (0, "0.0000")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    """Three digits or so."""
    assert shown(value) == text
