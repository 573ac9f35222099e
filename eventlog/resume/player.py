"""Answers the boundaries of one execution from its tape, and decides when to go to the world."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from eventlog.capture.human import reviewed_output
from eventlog.capture.playing import MISSING, Served, serving
from eventlog.capture.recorder import Recorder
from eventlog.codec import Request
from eventlog.logger import Logger
from eventlog.record import NewEvent, join_path
from eventlog.replay.path import above
from eventlog.requests import moments, volatile_ids
from eventlog.resume import flows, models, tasks, tools
from eventlog.resume.declared import declared_classes
from eventlog.resume.definitions import flow_methods_changed, method_name
from eventlog.resume.divergence import DivergedError, Divergence, RunTakenOverError, first_difference
from eventlog.resume.edits import Edits
from eventlog.resume.exchanges import SAVES, Answer, Exchange, pick
from eventlog.resume.ids import Ids
from eventlog.resume.marks import settled
from eventlog.resume.policy import Policy
from eventlog.resume.revive import UnrevivableError, is_redacted, revive, revive_error
from eventlog.resume.tape import Tape

if TYPE_CHECKING:
    from eventlog.capture.kickoffs import Kickoff
    from eventlog.lease import Lease

log = Logger(__name__)


class Tally(msgspec.Struct):
    """What a kickoff took from the tape, and what it asked the world."""

    llm_served: int = 0
    """Model calls answered from the tape, those of kept tasks included."""
    llm_live: int = 0
    tools_served: int = 0
    tools_live: int = 0
    tasks_kept: int = 0
    """Finished tasks that were not run again."""
    methods_kept: int = 0


class TapePlayer:
    """The player of one execution. Thread-safe: parallel lanes ask at the same time."""

    def __init__(
        self, recorder: Recorder, tape: Tape, policy: Policy, kickoff: Kickoff, *,
        lease: Lease | None = None, edits: Edits | None = None, feedback: str | None = None,
    ) -> None:  # fmt: skip
        """``feedback`` answers a flow that waits for it."""
        self.recorder, self.tape, self.policy, self.entity = recorder, tape, policy, kickoff.entity
        self.lease, self.edits, self.feedback = lease, edits or Edits(), feedback
        self.tally = Tally()
        self.stopped: Exception | None = None
        """Why the kickoff is to end."""
        self.divergences: list[Divergence] = []
        self.live_definitions: dict[str, dict[str, Any]] = {}
        """Path of an execution → what it is made of now."""
        self.identified: set[str] = set()
        """Paths of flows that have their old id again."""
        self._reruns: dict[str, int | None] = {}
        self.ids = Ids()
        self._fix_ids(kickoff.asked, self.edits.inputs, [text for _, text in self.edits.outputs.values()])
        self.lock = threading.RLock()
        self.classes = declared_classes(self.entity, kickoff.kwargs.values())

    def _fix_ids(self, *values: Any) -> None:
        """Take down the ids and times in what the user wrote: they are told apart."""
        for value in values:
            data = json.dumps(self.encoded(value), default=str).encode("utf-8", "replace")
            self.ids.fix([*volatile_ids(data), *moments(data)])

    # -- every boundary ---------------------------------------------------------------------------

    def go_on(self) -> None:
        """Ask at every boundary: a kickoff that is to stop stops, whatever CrewAI made of the error at first.

        Raises:
            DivergedError, ToolInFlightError, RunTakenOverError: why it is to stop.
        """
        if self.lease is not None and self.lease.is_lost and self.stopped is None:
            self.stopped = RunTakenOverError(self.lease.run, self.lease.epoch, self.lease.branch)
        if self.stopped is not None:
            raise self.stopped

    def stop(self, error: Exception) -> NoReturn:
        """End the kickoff: CrewAI hands an error of a tool to the agent, so the next boundary raises it again."""
        self.stopped = self.stopped or error
        raise self.stopped

    def diverged(self, divergence: Divergence) -> None:
        """Take note of a difference; under ``strict`` it ends the kickoff.

        Raises:
            DivergedError: the policy says to stop.
        """
        self.divergences.append(divergence)
        log.warning("diverged", where=divergence.where, at=divergence.at, what=divergence.what)
        if self.policy.on_change == "strict":
            self.stop(DivergedError(divergence))

    def changed(self, execution: str, where: str) -> None:
        """Take note that something finished is defined otherwise now; under ``strict`` that ends the kickoff.

        Raises:
            DivergedError: the policy says to stop.
        """
        then, now = self.tape.definition(execution), self.live_definitions.get(execution, {})
        old = self.tape.value(then.get("definition")) if then is not None else None
        self.diverged(self.difference(where, "definition", old, now.get("definition")))

    def revived(self, tree: Any, *, lenient: bool = False) -> Any:
        """Return the value of a recorded tree.

        Raises:
            UnrevivableError: it cannot be made again, or redaction took something from it.
        """
        whole = self.tape.value(tree)
        if is_redacted(whole):
            raise UnrevivableError("redaction changed it")
        value = revive(whole, self.classes, lenient=lenient)
        if isinstance(whole, (dict, list)) and self.encoded(value) != whole:  # an alias, or a validator that computes
            value = revive(whole, self.classes, lenient=lenient, unchecked=True)
            if not lenient and self.encoded(value) != whole:
                raise UnrevivableError("its class makes another value of it")
        return value

    def first_rerun(self, flow: str) -> int | None:
        """Return the seq at which the first method of a flow began that has to run again; what came later may too."""
        if flow not in self._reruns:
            methods = {p: m.seq for p, m in self.tape.methods.items() if above(p) == flow}
            code = flow_methods_changed(self, flow)
            again = (s for p, s in methods.items() if method_name(p) in code or s < self.edits.last_below(p))
            self._reruns[flow] = min(again, default=None)
        return self._reruns[flow]

    def record_feedback(self, given: dict[str, Any], text: str) -> None:
        """Put feedback that was given after a pause on record, as if a person had answered then."""
        fields = {"kind": "human_feedback", "message": getattr(given.get("context"), "message", given.get("message"))}
        fields |= {"answer": {"text": text}, "output": reviewed_output(given)}
        self.recorder.guarded(lambda r: r.append_numbered("eventlog.human_exchange", fields))

    def take_definition(self, path: str, fields: dict[str, Any]) -> None:
        """Take down what an execution is made of as it starts, before inputs are filled in."""
        content = fields["definition"].value
        data = json.dumps(self.encoded(content), default=str).encode("utf-8", "replace")
        self.ids.fix(volatile_ids(data))
        recorded = self.tape.definition(path)
        if recorded is not None:
            old = json.dumps(self.tape.value(recorded.get("definition")), default=str)
            self.ids.fix(volatile_ids(old.encode("utf-8", "replace")))
        self.live_definitions[path] = {
            "agents": fields.get("agents"), "tasks": fields.get("tasks"), "definition": self.encoded(content)
        }  # fmt: skip

    def is_replayed(self, event: NewEvent, whole: Callable[[], Any]) -> bool:
        """Whether an event repeats one that is on record; ``whole`` returns its payload with every text in place."""
        if serving.get():
            return True
        with self.lock:
            return self.tape.marks.take(join_path(event.path), event.type, event.payload, whole)

    # -- boundaries -------------------------------------------------------------------------------

    def llm(self, lane: str, name: str, request: Request, llm: Any, given: dict[str, Any]) -> Any:
        """Return the recorded response to a request; ``MISSING`` when the model has to be asked."""
        return models.respond(self, lane, name, request, llm, given)

    def count(self, lane: str, estimate: Callable[[], int]) -> Any:  # noqa: ARG002 - for players without a world
        """Return the next recorded token count."""
        with self.lock:
            known = self.tape.counts.get(lane)
            if known:
                return known.popleft()
        self.go_on()
        return MISSING

    def tool(self, lane: str, tool: Any, given: dict[str, Any]) -> Served | None:
        """Return what a tool returned."""
        return tools.result(self, lane, tool, given)

    def human(self, lane: str, kind: str, message: Any, given: dict[str, Any]) -> Served | None:
        """Return what a person answered; a flow that waits for feedback goes on waiting, or gets it now."""
        with self.lock:
            exchange = pick(
                self.tape.human.get(lane, ()),
                lambda e: not e.failed and e.fields.get("kind") == kind and self._asks(e, message),
            )
        if exchange is not None:
            return self._given(exchange.fields.get("answer"), "text", lane, "human")
        if kind == "human_feedback" and lane in self.tape.paused:
            return flows.feedback(self, lane, given)
        self.go_on()
        return None

    def memory(self, lane: str, operation: str, given: dict[str, Any]) -> Served | None:
        """Return what the memory answered."""
        with self.lock:
            here = [
                e for e in self.tape.memory.get(lane, ()) if not e.failed and e.fields.get("operation") == operation
            ]
            now = settled(self.encoded(given)) if here else b""
            exchange = pick(here, lambda e: settled(self.tape.value(e.fields.get("args"))) == now)
            if exchange is None and self.policy.on_change == "lenient":
                exchange = pick(here, lambda _e: True)
            if exchange is not None and operation in SAVES:
                exchange = exchange if self.tape.saved[lane] > 0 else None  # else it died before it was saved
                self.tape.saved[lane] -= 1
        if exchange is not None:
            return self._given(exchange.fields.get("result"), "value", lane, "memory")
        self.go_on()
        return None

    def task(self, parent: str | None, task: Any, agent: Any, context: Any) -> Any:
        """Return the output of a finished task; ``MISSING`` when it has to run."""
        return tasks.output(self, parent, task, agent, context)

    def condition(self, parent: str | None, task: Any) -> bool | None:
        """Return whether a conditional task ran."""
        return tasks.condition(self, parent, task)

    def method(self, lane: str, flow: Any) -> Any:
        """Return the result of a finished method; ``MISSING`` when it has to run."""
        return flows.result(self, lane, flow)

    def _asks(self, exchange: Exchange, message: Any) -> bool:
        """Whether a person was shown this message."""
        return settled(self.tape.value(exchange.fields.get("message"))) == settled(self.encoded(message))

    # -- helpers ----------------------------------------------------------------------------------

    def _given(self, box: Any, key: str, lane: str, what: str) -> Served | None:
        """Return the answer of an exchange, unless it cannot be made again."""
        tree = box.get(key) if isinstance(box, dict) else None
        try:
            value = self.revived(tree)
        except UnrevivableError as error:
            log.warning("not_served", what=what, where=lane, reason=str(error))
            self.go_on()
            return None
        return Answer(lambda: value)

    def error_of(self, exchange: Exchange) -> Served:
        """Return the recorded error of an exchange as an answer that raises it."""
        error = revive_error(self.tape.value(exchange.fields.get("error")))

        def give() -> Any:
            raise error

        return Answer(give)

    def encoded(self, value: Any) -> Any:
        """Return the tree of a live value as it would be recorded, references filled in."""
        return msgspec.json.decode(msgspec.json.encode(self.recorder.encoder.inline(value)))

    def difference(self, lane: str, what: str, expected: Any, actual: Any) -> Divergence:
        """Return the first difference of two trees as a divergence."""
        at, old, new = first_difference(expected, actual) or ("", expected, actual)
        return Divergence(lane, what, at, old, new)
