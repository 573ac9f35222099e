"""Executes a recorded run again: the user's code runs, the tape answers, and both histories are compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
from crewai.context import capture_execution_context
from crewai.events.event_context import restore_event_scope
from crewai.types.streaming import StreamingOutputBase

from eventlog.capture.beginnings import note_state
from eventlog.capture.kickoffs import ASKED
from eventlog.capture.playing import Claim, claims, playing, reexecuting, within
from eventlog.errors import EventLogError, ExecutionNotFoundError
from eventlog.lineage import SEQ_MAX
from eventlog.nesting import decode_payload
from eventlog.read import Reader
from eventlog.record import ExecutionInfo, read_ordinal
from eventlog.redact import Redaction
from eventlog.references import kind_of
from eventlog.replay.path import execution_of
from eventlog.resume.closed import ClosedPlayer, NoKickoff
from eventlog.resume.compare import settled
from eventlog.resume.definitions import execution_changed
from eventlog.resume.director import RunDirector
from eventlog.resume.divergence import DivergedError, Divergence, first_difference
from eventlog.resume.edits import edits_of
from eventlog.resume.flows import begin_again
from eventlog.resume.identity import bare_label, newest_marks, split, step_of
from eventlog.resume.outcome import Reexecution, ServedCounts, shown
from eventlog.resume.policy import Policy
from eventlog.resume.recorded import Recorded, read_recorded, refuse_compacted
from eventlog.resume.scratch import Scratch
from eventlog.resume.taping import read_tape
from eventlog.resume.verdict import EVENT_OF, Verdict, judge
from eventlog.writer import instead

if TYPE_CHECKING:
    from eventlog.capture.kickoffs import Kickoff

STARTS = {"crew": "crew_kickoff_started", "flow": "flow_started", "agent": "lite_agent_execution_started"}


class RunReexecutor(RunDirector):
    """Executes the kickoffs of one run again, in whatever order they come; each recorded one is taken once."""

    def __init__(self, reader: Reader, run: str, branch: str, scratch: Scratch, *, everywhere: bool = False) -> None:
        """The recorded run is only read. Events of the user's go to ``scratch``, unless this is ``everywhere``.

        Raises:
            RunNotFoundError, BranchNotFoundError: there is none of that name.
        """
        super().__init__(scratch.writer, Policy(on_change="strict"))
        self._row = reader.branch_id(run, branch)
        self._scratch, self.reader, self.home = scratch, reader, scratch.home
        self._roots = [e for e in reader.executions(self._row) if e.parent is None]
        self.instead = None if everywhere else scratch.writer
        self._marks = newest_marks(e.path for e in self._roots)
        self._is_open = True
        self.run, self.command = run, None
        self.wanted: ExecutionInfo | None = None
        """The recorded execution that the next kickoff is, whatever it is asked."""
        self.results: list[Reexecution] = []
        self.unknown: list[str] = []
        """Paths of kickoffs that are not on record."""

    @property
    def _branch(self) -> int:
        """Row of the recorded branch."""
        return self._row

    def refuse_compacted(self) -> None:
        """Return if everything is on record.

        Raises:
            CompactedError: the events of a kickoff are gone.
        """
        for found in self._roots:
            refuse_compacted(self.reader, self._row, found)

    @property
    def missing(self) -> list[ExecutionInfo]:
        """The recorded kickoffs at the top that did not come again; what a step did anew need not."""
        return [
            e for e in self._roots if e.path not in self._taken and self.newest_mark(step_of(e.path)) == step_of(e.path)
        ]

    def newest_mark(self, mark: str) -> str:
        """Return the mark that a step had when it was done last."""
        return self._marks.get(mark.partition("~")[0], mark)

    @property
    def ok(self) -> bool:
        """Whether everything that is recorded came again, and nothing else."""
        return all(self.outcomes) and not self.missing

    @property
    def outcomes(self) -> list[Reexecution]:
        """The results, and what was asked outside of every kickoff though it is not on record."""
        stopped = self.outside.stopped if "outside" in self.__dict__ else None
        if not isinstance(stopped, DivergedError):
            return list(self.results)
        found = stopped.divergence
        where = Reexecution(
            execution="", diverged_at=f"{found.where} {EVENT_OF.get(found.what, found.what)}".strip(), at=found.at,
            expected=found.expected, actual=found.actual, served=self.outside.served,
        )  # fmt: skip
        return [*self.results, where]

    @property
    def served(self) -> ServedCounts:
        """What was answered from the tape, inside of kickoffs and outside."""
        counts = [result.served for result in self.results]
        if "outside" in self.__dict__:
            counts.append(self.outside.served)
        return ServedCounts(**{n: sum(getattr(c, n) for c in counts) for n in ServedCounts.__struct_fields__})

    @cached_property
    def outside(self) -> ClosedPlayer:
        """Answers what is asked outside of every kickoff."""
        tape = read_tape(self.reader, self._row, "", 0, SEQ_MAX, retries_failures=False)
        for kind in (tape.llm, tape.tools, tape.human, tape.memory, tape.counts):
            for lane in [lane for lane in kind if execution_of(lane)]:
                del kind[lane]
        return ClosedPlayer(self.recorder, tape, NoKickoff())

    def newest(self, entity: Any) -> ExecutionInfo | None:
        """Return the last recorded execution of a crew, flow, agent or task, whatever it was asked."""
        label = self.label_of(entity)
        return next((e for e in reversed(self._roots) if label == bare_label(split(e.path)[0])), None)

    def asked(self, found: ExecutionInfo, entity: Any) -> Any:
        """Return what a recorded execution was asked."""
        name = ASKED[found.kind]
        for event in self.reader.stored(self._row, found.started_seq - 1, found.started_seq, kept=True):
            tape = read_tape(self.reader, self._row, found.path, found.started_seq - 1, found.started_seq)
            player = ClosedPlayer(self.recorder, tape, NoKickoff(entity))
            return player.revived(decode_payload(event.payload).get(name), lenient=True)
        return None

    @contextmanager
    def here(self) -> Iterator[None]:
        """Execute again what is kicked off in a block."""
        with within(playing, None), within(reexecuting, self), within(instead, self.instead):
            yield

    def is_open(self) -> bool:
        """Whether kickoffs may still come: a stream may be read later than its block ends."""
        return self._is_open

    def end(self) -> None:
        """Take no more kickoffs."""
        self._is_open = False

    # -- one kickoff ----------------------------------------------------------------------------------

    def direct(self, kickoff: Kickoff) -> Any:
        """Return the result of the kickoff, executed again; for an asynchronous one an awaitable of it.

        Raises:
            DivergedError: it asked something that is not on record.
        """
        return self._again_later(kickoff) if kickoff.is_async else self._again(kickoff)

    def _again(self, kickoff: Kickoff) -> Any:
        """Execute a synchronous kickoff again."""
        with self._judged(kickoff) as result:
            result.output = kickoff.call()
        return result.output

    async def _again_later(self, kickoff: Kickoff) -> Any:
        """Execute an asynchronous kickoff again."""
        with self._judged(kickoff) as result:
            result.output = await kickoff.call()
        return result.output

    @contextmanager
    def _judged(self, kickoff: Kickoff) -> Iterator[Reexecution]:
        """Let a kickoff run in a block on its tape, then compare; the result of the block is filled in."""
        claim, found = self.take_place(kickoff)
        path = f"/{claim.label}#{claim.ordinal}"
        result, failure = Reexecution(execution=path), None
        before, homes = capture_execution_context().event_id_stack, self.recorder.homes
        token = homes.enter(self.home)
        try:
            if found is None:
                raise self._not_recorded(kickoff, result)
            recorded = read_recorded(self.reader, self._row, found)
            player = self._player(kickoff, recorded)
            try:
                with self._in_place(claim, player):
                    yield result
            except Exception as error:
                failure = error
            self._finish(result, recorded, player)
        finally:
            homes.leave(self.home, token)
            self.leave_place(path)
            restore_event_scope(before)
            if kickoff.kind == "flow":
                note_state(kickoff.entity, kickoff.began)
        result.error = failure if player.stopped is None else None
        if (failure := player.stopped or failure) is not None:
            raise failure

    @contextmanager
    def _in_place(self, claim: Claim, player: ClosedPlayer) -> Iterator[None]:
        """Let everything in a block happen at a recorded place, and nowhere else."""
        with (
            within(claims, claim), within(playing, player), within(reexecuting, self),
            within(instead, self.instead),
        ):  # fmt: skip
            yield

    def take_place(self, kickoff: Kickoff) -> tuple[Claim, ExecutionInfo | None]:
        """Return the place of a kickoff and what is recorded there."""
        wanted, self.wanted = self.wanted, None
        if wanted is None:
            return super().take_place(kickoff)
        self._taken.add(wanted.path)
        label, _, ordinal = wanted.path[1:].rpartition("#")
        return Claim(self.home, wanted.kind, label, read_ordinal(ordinal)), wanted

    def _not_recorded(self, kickoff: Kickoff, result: Reexecution) -> DivergedError:
        """Take note of a kickoff that is not on record."""
        start = STARTS.get(kickoff.kind, "task_started")
        result.diverged_at = f"{result.execution} {start}"
        result.actual = f"a kickoff with {ASKED.get(kickoff.kind, 'inputs')} {kickoff.asked!r:.200}"
        self.unknown.append(result.execution)
        self.results.append(result)
        return DivergedError(Divergence(result.execution, "kickoff", "", None, result.actual))

    def _player(self, kickoff: Kickoff, recorded: Recorded) -> ClosedPlayer:
        """Return who answers a kickoff; the inputs that a fork gave it count."""
        tape = recorded.tape
        edits = edits_of(tape.edits, tape.path)
        recorded.leave_out(edits)
        player = ClosedPlayer(self.recorder, tape, kickoff, busy=recorded.busy, edits=edits)
        if kickoff.kind == "flow":
            begin_again(player, kickoff.entity)
        if edits.inputs:
            values = {k: player.revived(v, lenient=True) for k, v in edits.inputs.items()}
            kickoff.replace("inputs", {**(kickoff.given.get("inputs") or {}), **values})
        return player

    def _finish(self, result: Reexecution, recorded: Recorded, player: ClosedPlayer) -> None:
        """Compare, and take note of the result."""
        verdict = judge(recorded, list(self._scratch.events(result.execution)), self._scratch.reader, player)
        for name in Verdict.__struct_fields__:
            setattr(result, name, getattr(verdict, name))
        result.served = player.served
        if execution_changed(player, result.execution):
            then, now = player.tape.definition(result.execution), player.live_definitions[result.execution]
            old = settled(player.tape.value((then or {}).get("definition")))
            difference = first_difference(old, settled(now.get("definition")))
            at, expected, actual = difference or ("", "one definition", "another one")
            result.changed = f"{at}: {shown(expected)} → {shown(actual)}"
        self.results.append(result)


@contextmanager
def reexecution(
    reader: Reader, run: str, branch: str, redaction: Redaction, *, everywhere: bool = False
) -> Iterator[RunReexecutor]:
    """Execute every kickoff in a block again from the record of a run; in other contexts, inside ``here()``.

    Nothing is appended to the log. ``everywhere``: in all threads of the process, not only in this context; the logs
    that a program opens itself are then up to the caller (``eventlog.writer.redirections``).

    Raises:
        RunNotFoundError, BranchNotFoundError: there is none of that name.
    """
    from eventlog.capture.playing import program_reexecutor  # noqa: PLC0415 - a list that changes

    scratch = Scratch(run, redaction, reader)
    try:
        again = RunReexecutor(reader, run, branch, scratch, everywhere=everywhere)
        if everywhere:
            again.refuse_compacted()
            program_reexecutor.append(again)
        try:
            with again.here():
                yield again
        finally:
            again.end()
    finally:
        if everywhere:
            program_reexecutor.clear()
        scratch.close()


class Request(msgspec.Struct, frozen=True):
    """What is to be executed again."""

    entity: Any
    inputs: Any
    options: dict[str, Any]

    def prepare(self, again: RunReexecutor) -> dict[str, Any]:
        """Return the arguments of the kickoff; without inputs those of the newest recorded one.

        Raises:
            ExecutionNotFoundError: the entity was never kicked off in this run.
            EventLogError: it is nothing that can be.
        """
        kind = kind_of(self.entity)
        if kind not in ASKED:
            raise EventLogError(f"{type(self.entity).__name__} is no crew, flow, agent or task")
        if self.inputs is not None:
            return {ASKED[kind]: self.inputs, **self.options}
        found = again.newest(self.entity)
        if found is None:
            if ASKED[kind] not in self.options:
                raise ExecutionNotFoundError(again.run, again.label_of(self.entity))
            return self.options
        again.wanted = found
        asked = again.asked(found, self.entity)
        return self.options if asked is None else {ASKED[kind]: asked, **self.options}

    def outcome(self, again: RunReexecutor, error: Exception | None) -> Reexecution:
        """Return the result.

        Raises:
            ExecutionNotFoundError: nothing of the kind is recorded.
        """
        if again.unknown:
            raise ExecutionNotFoundError(again.run, again.unknown[-1])
        if not again.results:
            raise error or EventLogError("nothing was kicked off")
        return again.results[-1]


def reexecute(
    reader: Reader, run: str, branch: str, redaction: Redaction, request: Request
) -> Reexecution:  # fmt: skip
    """Return what came of one kickoff that was executed again.

    Raises:
        ExecutionNotFoundError: nothing of the kind is recorded.
    """
    failure: Exception | None = None
    name = "execute_sync" if kind_of(request.entity) == "task" else "kickoff"
    with reexecution(reader, run, branch, redaction) as again:
        arguments = request.prepare(again)
        try:
            output = getattr(request.entity, name)(**arguments)
            if isinstance(output, StreamingOutputBase):
                for _chunk in output:
                    pass
        except Exception as error:
            failure = error
        return request.outcome(again, failure)


async def areexecute(
    reader: Reader, run: str, branch: str, redaction: Redaction, request: Request
) -> Reexecution:  # fmt: skip
    """``reexecute`` through the entity's own asynchronous kickoff.

    Raises:
        ExecutionNotFoundError: nothing of the kind is recorded.
    """
    failure: Exception | None = None
    name = "aexecute_sync" if kind_of(request.entity) == "task" else "akickoff"
    with reexecution(reader, run, branch, redaction) as again:
        arguments = request.prepare(again)
        try:
            output = await getattr(request.entity, name)(**arguments)
            if isinstance(output, StreamingOutputBase):
                async for _chunk in output:
                    pass
        except Exception as error:
            failure = error
        return request.outcome(again, failure)
