"""Wherever a run is cut off, fresh objects finish it as if nothing had happened, and ask nothing twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eventlog.capture.playing import MISSING
from eventlog.resume.player import TapePlayer
from tests.integration.resuming import cuts, record_whole, sweep
from tests.scenarios import SHAPES

KICKOFFS = [name for name in SHAPES if not name.startswith("llm_")]
"""Shapes that are kicked off; an LLM asked directly is not resumed."""
MOST = 14
"""Cuts for each shape; all of them in ``make torture``."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", KICKOFFS)
def test_a_run_cut_off_anywhere_is_finished_as_if_nothing_had_happened(name: str, tmp_path: Path) -> None:
    """The promise of resume: same result, same state, and every model, tool and person is asked once."""
    whole = record_whole(name, tmp_path)

    assert sweep(whole, tmp_path, cuts(whole, MOST)) == []
