"""No secret reaches the disk: crews full of canaries, then a search through the raw bytes of the files."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from crewai import Crew, Task
from crewai.tools import BaseTool
from pydantic import SecretStr

import eventlog
from eventlog.pipeline import Durability
from eventlog.testing import ScriptedLLM, final, tool_call
from tests.scenarios import World

CANARIES = {
    "llm": "canary-llm-Zx81pQ",
    "tool": "canary/tool+Yw72&oR",
    "secretstr": 'canary"str\\Xv63nS',
    "input": "canary-input-Wu54mT",
    "env": "canary=env%Vt45lU",
    "error": "canary-error-Us36kV",
}


class VaultTool(BaseTool):
    """A tool with credentials of its own, which it is careless with."""

    name: str = "vault"
    description: str = "Ask the vault."
    access_token: str = CANARIES["tool"]
    pin: SecretStr = SecretStr(CANARIES["secretstr"])

    def _run(self, q: str) -> str:
        token, pin = self.access_token, self.pin.get_secret_value()
        basic = base64.b64encode(f"u:{token}".encode()).decode()
        return f"GET https://x/{quote(token, safe='')}?pin={json.dumps(pin)} with {basic} in {q}"


class CarelessLLM(ScriptedLLM):
    """Repeats everything it knows, in text and in errors."""

    def _next_answer(self, call: Any) -> Any:
        known = f"{self.api_key} {CANARIES['input']} {CANARIES['env']}"
        if len(self.calls) == 1:
            return tool_call("vault", q=known)
        if len(self.calls) == 2:
            raise ConnectionError(f"401 for {self.api_key}: {CANARIES['error']} is wrong")
        return final(f"the answer is {known}")


def forms(value: str) -> set[bytes]:
    """Return what to look for, independently of the code under test."""
    out = {value, quote(value, safe=""), json.dumps(value)[1:-1], json.dumps(json.dumps(value))[3:-3]}
    padded = [base64.b64encode(b"\0" * n + value.encode()).decode()[4:-4] for n in range(3)]
    return {form.encode() for form in [*out, *padded]}


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> Crew:
    """A crew whose LLM, tool, inputs, errors and environment hold canaries."""
    monkeypatch.setenv("BILLING_API_KEY", CANARIES["env"])
    monkeypatch.setenv("ERROR_TOKEN", CANARIES["error"])
    world = World(CarelessLLM)
    agent = world.agent("Clerk of {password}", llm=world.llm(api_key=CANARIES["llm"]), tools=[VaultTool()])
    task = Task(description="Log in with {password}.", expected_output="Access", agent=agent, name="log in {password}")
    return Crew(agents=[agent], tasks=[task])


@pytest.mark.parametrize("durability", ["commit", "batch"])
def test_no_form_of_any_secret_is_in_the_files(careless: Crew, tmp_path: Path, durability: Durability) -> None:
    """Searched: the database, its WAL and an export, for each canary raw and encoded."""
    log = eventlog.open(tmp_path / "x.db", durability=durability)
    with log.run("r"):
        careless.kickoff(inputs={"password": CANARIES["input"], "note": f"see {CANARIES['input']}"})
    log.snapshot("r")
    shown = "\n".join(repr(e.payload) for e in log.events("r"))
    files = {path.name: path.read_bytes() for path in tmp_path.glob("x.db*")}
    log.close()
    files["closed"] = (tmp_path / "x.db").read_bytes()
    files["events"] = shown.encode()
    found = {
        (c, name)
        for c, value in CANARIES.items()
        for name, data in files.items()
        if any(f in data for f in forms(value))
    }

    assert "x.db-wal" in files
    assert "[redacted:" in shown
    assert found == set()


def test_the_canaries_would_be_found_without_redaction(careless: Crew, tmp_path: Path) -> None:
    """The search above can fail: with redaction off, every canary but the ones nobody says is there."""
    off = eventlog.Redaction(enabled=False)
    with eventlog.open(tmp_path / "x.db", redaction=off) as log, log.run("r"):
        careless.kickoff(inputs={"password": CANARIES["input"]})
    data = (tmp_path / "x.db").read_bytes()

    assert all(any(f in data for f in forms(CANARIES[c])) for c in ("llm", "input", "env", "error", "tool"))


def test_events_that_redaction_changed_are_flagged(careless: Crew, tmp_path: Path) -> None:
    """What was changed must never be served as if it were the real thing."""
    with eventlog.open(tmp_path / "x.db") as log:
        with log.run("r"):
            careless.kickoff(inputs={"password": CANARIES["input"]})
        flagged = {e.type for e in log.events("r") if e.flags & 1}

        assert {"crew_kickoff_started", "llm_call_completed", "eventlog.llm_exchange", "tool_usage_finished"} <= flagged
        assert log.status().redacted > 0
