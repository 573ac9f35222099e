"""A run's state as a page for people. Pure."""

from __future__ import annotations

from eventlog.cli.opening import Place
from eventlog.cli.output import Block, Facts, Prose, Table
from eventlog.cli.text import as_text, one_line
from eventlog.cli.trees import tree_lines
from eventlog.replay.path import last_segment
from eventlog.replay.state import RunState, TaskState

EXCERPT_CHARS = 60


def state_page(state: RunState, place: Place, *, full: bool) -> list[Block]:
    """Return the page; ``full`` shows outputs and inputs in their whole length."""
    blocks: list[Block] = [
        Facts(_facts(state, place)),
        _tree("inputs", state.inputs),
        _tasks(state),
        _methods(state),
        _tree("flow state", state.flow_state),
        _models(state),
        _tools(state),
        Table("in progress", ("seq", "type", "name"), [(str(o.seq), o.type, one_line(o.name)) for o in state.open]),
        Prose("error", as_text(state.error)),
    ]
    if full:
        blocks += [Prose(f"output of {one_line(t.name or t.description, 40)}", as_text(t.output)) for t in state.tasks]
    return blocks


def _facts(state: RunState, place: Place) -> list[tuple[str, str]]:
    """Return what a person looks for first."""
    end = "the newest event" if state.cursor == place.head else f"the newest is {place.head}"
    nested = f"{len(state.executions)} executions" if len(state.executions) > 1 else ""
    lost = sum(gap.dropped for gap in state.gaps)
    rows = [
        ("run", state.run if state.branch == "main" else f"{state.run} (branch {state.branch})"),
        ("status", state.status),
        ("event", f"{state.cursor} ({end})"),
        (state.kind or "kind", " · ".join(filter(None, (one_line(state.name), nested)))),
        ("started", (state.started_at or "")[:19]),
        ("this event", (state.updated_at or "")[:19]),
        ("events", str(state.event_count)),
        ("own events", _counted(state.user_types)),
        ("unknown types", _counted(state.unknown_types)),
        ("gaps", f"{lost} events were lost; see: eventlog log {state.run} --type eventlog.capture_gap" if lost else ""),
    ]
    return [(name, value) for name, value in rows if value]


def _counted(types: dict[str, int]) -> str:
    """Return types with how often each came."""
    return ", ".join(f"{name} ({count})" for name, count in types.items())


def _tree(title: str, tree: object) -> Prose:
    """Return a value of the user's."""
    return Prose(title, "\n".join(tree_lines(tree)) if tree not in (None, {}, []) else "")


def _tasks(state: RunState) -> Table:
    """Return the tasks in order."""
    columns = ("#", "status", "agent", "task", "output", "events")
    return Table("tasks", columns, [_task(n, task) for n, task in enumerate(state.tasks, 1)], right=("#",))


def _task(number: int, task: TaskState) -> tuple[str, ...]:
    """Return one task."""
    outcome = task.error if task.status == "failed" else task.output
    name = one_line(task.name or task.description, 30)
    events = _span(task.started_seq, task.completed_seq)
    return (str(number), task.status, task.agent, name, one_line(outcome, EXCERPT_CHARS), events)


def _span(start: int | None, end: int | None) -> str:
    """Return from which event to which something went."""
    return "" if start is None else f"{start}–{'' if end is None else end}"  # noqa: RUF001 - a range


def _methods(state: RunState) -> Table:
    """Return the methods of flows."""
    flows = len({m.execution for m in state.methods}) > 1
    rows = [
        (m.status, f"{last_segment(m.execution)}.{m.name}" if flows else m.name, str(m.runs),
         one_line(m.error if m.status == "failed" else m.result, EXCERPT_CHARS))
        for m in state.methods
    ]  # fmt: skip
    return Table("methods", ("status", "method", "runs", "result"), rows, right=("runs",))


def _models(state: RunState) -> Table:
    """Return the calls of models and their tokens."""
    uses = dict(state.llm.by_model)
    rows = [
        (n, str(u.calls), str(u.prompt_tokens), str(u.completion_tokens), str(u.total_tokens)) for n, u in uses.items()
    ]
    if state.llm.failed:
        rows.append(("(failed)", str(state.llm.failed), "", "", ""))
    numbers = ("calls", "prompt", "completion", "tokens")
    return Table("models", ("model", *numbers), rows, right=numbers)


def _tools(state: RunState) -> Table:
    """Return the uses of tools."""
    rows = [(tool.name, str(tool.calls), str(tool.errors)) for tool in state.tools]
    return Table("tools", ("tool", "calls", "errors"), rows, right=("calls", "errors"))
