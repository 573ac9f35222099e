"""The real OpenAI client against a local HTTP stub: what goes over the wire is what is on record."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from crewai import LLM, Crew, Task

import eventlog
from tests.scenarios import World

KEY = "sk-test-canary-0123456789abcdef"


class Stub(BaseHTTPRequestHandler):
    """Answers chat completions, streamed or not; everything else is not found."""

    requests: list[Any] = []  # noqa: RUF012 - replaced for each server

    def do_POST(self) -> None:
        """Answer one request."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append((self.path, dict(self.headers), body))
        if not self.path.endswith("/chat/completions"):
            self.send_error(404)
            return
        stream = bool(body.get("stream"))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if stream else "application/json")
        self.end_headers()
        self.wfile.write(_stream() if stream else json.dumps(_completion()).encode())

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


def _completion() -> dict[str, Any]:
    """An answer as the service gives it."""
    message = {"role": "assistant", "content": "Thought: I know.\nFinal Answer: forty-two"}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


def _stream() -> bytes:
    """The same answer in pieces."""
    lines = []
    for text in ("Thought: I know.\n", "Final Answer: ", "forty-two"):
        choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
        lines.append({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})
    end = {**lines[0], "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": _completion()["usage"]}
    return "".join(f"data: {json.dumps(line)}\n\n" for line in [*lines, end]).encode() + b"data: [DONE]\n\n"


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """A stub on a free local port; ``RequestHandlerClass.requests`` holds what it was asked."""
    handler = type("OwnStub", (Stub,), {"requests": []})
    stub = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=stub.serve_forever)
    thread.start()
    yield stub
    stub.shutdown()
    thread.join()
    stub.server_close()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_call_over_the_wire_is_on_record_as_it_was_and_its_key_is_not(
    server: ThreadingHTTPServer, tmp_path: Path, stream: bool
) -> None:
    """Messages, response, usage and chunks are those of the wire; each network token count is an exchange too."""
    url = f"http://127.0.0.1:{server.server_port}/v1"
    llm: Any = LLM(model="openai/gpt-4o-mini", api_key=KEY, base_url=url, stream=stream)
    agent = World().agent("Clerk", llm=llm)
    crew = Crew(agents=[agent], tasks=[Task(description="Answer.", expected_output="A number", agent=agent)])
    with eventlog.open(tmp_path / "x.db") as log:
        with log.run("r"):
            assert "forty-two" in str(crew.kickoff())
        events, state, status = list(log.events("r")), log.state("r"), log.status()
    asked = [body for path, _, body in server.RequestHandlerClass.requests if path.endswith("completions")]  # type: ignore[attr-defined]
    completed = [e for e in events if e.type == "llm_call_completed"]
    exchanges = [e for e in events if e.type == "eventlog.llm_exchange"]

    assert len(asked) == len(completed) == len(exchanges) == 1
    assert [m["content"] for m in completed[0].payload["messages"]] == [m["content"] for m in asked[0]["messages"]]
    assert exchanges[0].payload["completed"] == completed[0].event_id
    assert "response" not in exchanges[0].payload
    assert (state.llm.calls, state.llm.prompt_tokens, state.llm.completion_tokens) == (1, 11, 7)
    assert [e.payload["chunk"] for e in events if e.type == "llm_stream_chunk"] == (
        ["Thought: I know.\n", "Final Answer: ", "forty-two"] if stream else []
    )
    assert status.failed == 0
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.glob("x.db*"))
    assert sqlite3.connect(tmp_path / "x.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)
