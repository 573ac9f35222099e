"""Programs on the drop-in client: several processes at once, a published tutorial, our example."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import eventlog
from eventlog.aegis import AegisClient, logs
from tests.cli_world import ROOT, environment

HERE = Path(__file__).parent


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the log of a test is; what a test opened is closed."""
    monkeypatch.setenv("EVENTLOG_DB", str(tmp_path / "log.db"))
    yield tmp_path / "log.db"
    logs._close_all()


# -- several processes ------------------------------------------------------------------------------------------------

WORKER = """
import sys
from eventlog.aegis import AegisClient
client, worker = AegisClient(), int(sys.argv[1])
for n in range(20):
    client.create_session("shared", agent_id="lead")
    client.create_feature("f", "d", session_id="shared", test_steps=[str(i) for i in range(40)])
    client.mark_complete("shared", f"item-{2 * n + worker}")
    client.update_feature("f", passes=[str(2 * n + worker)], verified_by=f"w{worker}")
"""


@pytest.mark.timeout(120)
def test_two_processes_lose_nothing_of_each_other(db: Path) -> None:
    """Each completes its own items and verifies its own test steps, at the same time.

    Seeded once: ``mark_complete`` that writes the whole list it has read loses the other one's items.
    """
    env = environment(EVENTLOG_DB=str(db))
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, str(n)], env=env) for n in range(2)]

    assert [worker.wait(100) for worker in workers] == [0, 0]
    client = AegisClient()
    session, feature = client.get_session("shared"), client.get_feature("f")
    kinds = Counter(event.type for event in client.log.events("shared"))
    assert (session.completed_count, len(feature.passed_steps)) == (40, 40)
    assert (kinds["eventlog.session_opened"], kinds["eventlog.feature_defined"]) == (1, 1)


def test_what_one_process_says_another_one_sees(db: Path) -> None:
    """A client that was there before looks again."""
    begun = AegisClient()
    begun.create_session("s")
    code = "from eventlog.aegis import AegisClient as C; C().mark_complete('s', 'scan'); C().create_feature('f')"
    subprocess.run([sys.executable, "-c", code], env=environment(EVENTLOG_DB=str(db)), check=True)

    assert begun.get_session("s").completed_items == ["scan"]
    assert begun.get_feature("f").feature_id == "f"
    with eventlog.open(db, readonly=True) as log:
        assert [each.completed_items for each in log.sessions()] == [["scan"]]


# -- the tutorial ------------------------------------------------------------------------------------------------------

IMPORTS = [
    "from aegis_memory.integrations.crewai import AegisCrewMemory, AegisAgentMemory",
    "from aegis_memory.client import AegisClient",
]
OWN = [
    "from eventlog.aegis import AegisAgentMemory, AegisClient, AegisCrewMemory",
    "from eventlog.testing import ScriptedLLM",
    "llm = ScriptedLLM()", *["llm=llm,"] * 3,
    "def track_features():", "track_features()",
]  # fmt: skip
RESET = ("# Create the session", "# Set initial state", 'status="in_progress"\n)')


def lines_of(text: str) -> list[str]:
    """Return what is on each line, without its indentation, which the published text has lost."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def test_the_tutorials_program_is_the_published_one() -> None:
    """Line by line, but for the imports, the LLM, and the reset of Step 2, which Step 7 repeats."""
    published = lines_of("\n".join((HERE / "aegis_tutorial.txt").read_text().splitlines()[2:]))
    start = published.index("# Create the session")
    reset = published[start : published.index("def get_remaining_work(client, session_id):")]
    source = (HERE / "aegis_tutorial.py").read_text()
    docstring = ast.get_docstring(ast.parse(source), clean=False) or ""
    ours = lines_of(source.replace(f'"""{docstring}"""', "").replace("# mypy: ignore-errors", ""))

    assert Counter(ours) == Counter(published) - Counter(reset) - Counter(IMPORTS) + Counter(OWN)
    assert Counter(line for line in reset if not line.startswith("#")) <= Counter(ours)


@pytest.mark.timeout(120)
def test_the_example_ends_with_everything_verified(db: Path) -> None:
    """Offline; a second start does nothing again, and says so."""
    env = environment(EVENTLOG_DB=str(db), CREWAI_STORAGE_DIR=str(db.parent / "crewai"))
    env.pop("MODEL", None)
    command = [sys.executable, str(ROOT / "examples" / "security_audit.py")]
    first, second = (
        subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
        for _ in range(2)
    )

    assert (first[0], second[0]) == ("Resuming audit. 0/9 steps completed.", "Resuming audit. 9/9 steps completed.")
    assert [line.split()[0] for line in first[1:10]] == ["Running"] * 9
    assert [line.split()[0] for line in second[1:10]] == ["Skipping"] * 9
    assert first[-1] == second[-1] == "All features verified. Audit complete."
