"""The real OpenAI client, recorded against a local HTTP stub, resumed and executed again without a service."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from crewai import LLM, Agent, Crew, Task
from crewai.llms.hooks.base import BaseInterceptor
from crewai.tools import tool
from pydantic import BaseModel

import eventlog
from tests.integration.resuming import cut
from tests.integration.test_openai_client import KEY

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
CHAT, COUNT = "/v1/chat/completions", "/v1/responses/input_tokens"


class Report(BaseModel):
    """What the last task returns."""

    title: str
    pages: int


class Service(BaseHTTPRequestHandler):
    """Answers chat completions with text, tool calls or JSON, streamed or not, and counts tokens."""

    asked: list[str] = []  # noqa: RUF012 - replaced for each server

    def do_POST(self) -> None:
        """Answer one request."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(self.path)
        if self.path == COUNT:
            return self._send({"object": "response.input_tokens", "input_tokens": 100 + len(self.asked)})
        message = _message(body)
        if body.get("stream"):
            return self._send_stream(message)
        finish = "tool_calls" if message.get("tool_calls") else "stop"
        choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}
        head = {"id": f"c{len(self.asked)}", "object": "chat.completion", "created": 1, "model": "m"}
        return self._send({**head, "choices": [choice], "usage": USAGE})

    def _send(self, tree: dict[str, Any]) -> None:
        """Send one JSON document."""
        self._begin("application/json")
        self.wfile.write(json.dumps(tree).encode())

    def _send_stream(self, message: dict[str, Any]) -> None:
        """Send a message in pieces."""
        self._begin("text/event-stream")
        base = {"id": f"c{len(self.asked)}", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        text = message.get("content") or ""
        deltas: list[dict[str, Any]] = [{"content": text[i : i + 9]} for i in range(0, len(text), 9)]
        deltas += [{"tool_calls": [{"index": 0, **call}]} for call in message.get("tool_calls", ())]
        finish = "tool_calls" if message.get("tool_calls") else "stop"
        choices = [{"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": None} for delta in deltas]
        lines = [{**base, "choices": [choice]} for choice in choices]
        lines.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        lines.append({**base, "choices": [], "usage": USAGE})
        for line in lines:
            self.wfile.write(f"data: {json.dumps(line)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def _begin(self, kind: str) -> None:
        """Send the headers."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


def _message(body: dict[str, Any]) -> dict[str, Any]:
    """Return what the model says."""
    if body.get("response_format"):
        return {"content": json.dumps({"title": "Tea", "pages": 3})}
    if body.get("tools") and not any(message["role"] == "tool" for message in body["messages"]):
        function = {"name": "lookup", "arguments": json.dumps({"q": "tea"})}
        return {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": function}]}
    return {"content": f"I looked at {len(body['messages'])} messages."}


class ToStub(BaseInterceptor[Any, Any]):
    """Sends the client's requests, addressed to the real service, to the stub."""

    def __init__(self, port: int) -> None:
        """``port`` of this host."""
        self.port = port

    def on_outbound(self, message: Any) -> Any:
        """Change the address."""
        message.url = message.url.copy_with(scheme="http", host="127.0.0.1", port=self.port)
        return message

    def on_inbound(self, message: Any) -> Any:
        """Change nothing."""
        return message


class Stub:
    """The service while it runs."""

    def __init__(self) -> None:
        """Listen on a free port."""
        self.asked: list[str] = []
        self.handler = type("OwnService", (Service,), {"asked": self.asked})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def requests(self, path: str) -> int:
        """Return how often a path was asked."""
        return self.asked.count(path)

    def stop(self) -> None:
        """Be gone; a second time does nothing."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A service on a free local port."""
    stub = Stub()
    yield stub
    stub.stop()


def make_crew(stub: Stub, ran: list[str], *, stream: bool) -> Crew:
    """Return a crew whose first task uses a tool natively and whose second returns an instance of a model."""
    made: Any = LLM(model="openai/gpt-4o-mini", api_key=KEY, stream=stream, interceptor=ToStub(stub.port))

    @tool("lookup")
    def lookup(q: str) -> str:
        """Look up a fact."""
        ran.append(q)
        return f"fact about {q}"

    clerk = Agent(role="Clerk", goal="Answer", backstory="Knows", llm=made, tools=[lookup])
    editor = Agent(role="Editor", goal="Report", backstory="Writes", llm=made)
    tasks = [
        Task(name="look", description="Look up tea", expected_output="A fact", agent=clerk),
        Task(name="report", description="Report", expected_output="A report", agent=editor, output_pydantic=Report),
    ]
    return Crew(name="office", agents=[clerk, editor], tasks=tasks)


STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@STREAMED
def test_a_crew_is_executed_again_when_its_service_is_gone(stub: Stub, tmp_path: Path, *, stream: bool) -> None:
    """Completions, chunks, tool calls, structured output and token counts over the wire: all from the log."""
    ran: list[str] = []
    path = tmp_path / "x.db"
    with eventlog.open(path) as log:
        recorded = log.run("r").kickoff(make_crew(stub, ran, stream=stream))
    chats, counts = stub.requests(CHAT), stub.requests(COUNT)
    stub.stop()
    again: list[str] = []

    with eventlog.open(path, readonly=True) as log:
        result = log.reexecute("r", make_crew(stub, again, stream=stream))
        chunks = sum(1 for _ in log.events("r", types=["llm_stream_chunk"]))

    assert (chats, ran) == (3, ["tea"])
    assert counts > 0
    assert recorded.pydantic == Report(title="Tea", pages=3)
    assert result, str(result)
    assert result.output.pydantic == recorded.pydantic
    assert result.output.token_usage == recorded.token_usage
    assert (result.served.llm, result.served.tools, result.served.token_counts) == (3, 1, counts)
    assert (stub.requests(CHAT), stub.requests(COUNT), again) == (chats, counts, [])
    assert bool(chunks) is stream
    assert not any(KEY.encode() in file.read_bytes() for file in tmp_path.glob("x.db*"))


@STREAMED
def test_a_crew_is_resumed_and_asks_over_the_wire_what_is_missing(stub: Stub, tmp_path: Path, *, stream: bool) -> None:
    """At every cut: each completion is requested once, in one process or the other, and the result is the same."""
    path = tmp_path / "x.db"
    with eventlog.open(path) as log:
        recorded = log.run("r").kickoff(make_crew(stub, [], stream=stream))
        events = list(log.events("r"))
    landmarks = ("llm_call_started", "llm_call_completed", "eventlog.token_count", "eventlog.tool_exchange")
    for event in [e for e in events if e.type in (*landmarks, "task_completed", "eventlog.execution_result")]:
        left = [e for e in events if e.seq <= event.seq]
        answered = sum(e.type == "llm_call_completed" for e in left)
        counted = sum(e.type == "eventlog.token_count" for e in left)
        before, ran = (stub.requests(CHAT), stub.requests(COUNT)), list[str]()
        target = cut(path, event.seq, tmp_path / f"cut-{event.seq}.db")
        with eventlog.open(target) as log:
            result = log.run("r").kickoff(make_crew(stub, ran, stream=stream))
            again = log.run("r").reexecute(make_crew(stub, ran, stream=stream))
        chats, counts = stub.requests(CHAT) - before[0], stub.requests(COUNT) - before[1]
        assert result.pydantic == recorded.pydantic
        assert chats == 3 - answered, event.type
        assert counts <= sum(e.type == "eventlog.token_count" for e in events) - counted
        assert len(ran) == (0 if any(e.type == "eventlog.tool_exchange" for e in left) else 1)
        assert again, str(again)
