"""What was derived from what: which tasks have to run again when an output or an input is another. Pure.

A task uses the outputs of the tasks in its context (all before it, when it names none), a conditional task also the
one just before it, and the inputs whose ``{names}`` stand in its texts and its agent's. Where that cannot be known
(no definition on record, callbacks that make inputs), everything that might have used a value counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from eventlog.replay.path import above, self_and_above
from eventlog.replay.state import RunState, TaskState
from eventlog.replay.task_index import TaskIndex

_TASK_TEXTS = ("description", "expected_output", "output_file")
_AGENT_TEXTS = ("role", "goal", "backstory")

Definitions = Mapping[str, Mapping[str, Any]]
"""Path of an execution → payload of its ``eventlog.definition``, contents filled in."""


class Downstream:
    """The tasks of a state and what they use of each other."""

    def __init__(self, state: RunState, definitions: Definitions) -> None:
        """Nothing is changed."""
        self._state, self._definitions = state, definitions
        self.tasks = TaskIndex(state.tasks)

    def to_reset(self, edited: Collection[str], inputs: Collection[str], execution: str) -> list[str]:
        """Return the places of the tasks that began and used an edited output, or an edited input of ``execution``.

        The edited ones are not among them. What a task ran inside is derived from what happened there, too.
        """
        fixed = {place: row for place in edited if (row := self.tasks.by_place(place)) is not None}
        started = {id(row): row for row in self._using_inputs(execution, inputs)} if inputs else {}
        touched = {row.execution for row in (*fixed.values(), *started.values())}
        reset: dict[int, TaskState] = {}
        kept = {id(row) for row in fixed.values()}
        while touched:
            deepest = max(touched, key=lambda path: path.count("/"))
            touched.discard(deepest)
            reset.update(self._within(deepest, started, kept))
            outer = self._around(deepest)
            if outer is not None and id(outer) not in kept:
                started[id(outer)] = outer
                touched.add(outer.execution)
        return [self.tasks.place_of(row) for row in self._state.tasks if id(row) in reset and row.status != "pending"]

    def _within(self, execution: str, started: Mapping[int, TaskState], kept: set[int]) -> dict[int, TaskState]:
        """Return the tasks of one execution that run again: those of ``started``, and what uses them or the edited."""
        rows = self._rows(execution)
        uses = self._uses(execution, len(rows))
        changed = {n for n, row in enumerate(rows) if id(row) in kept or id(row) in started}
        found = set(changed)
        while True:
            more = {n for n, used in enumerate(uses) if n not in found and used & found}
            if not more:
                return {id(rows[n]): rows[n] for n in found if id(rows[n]) not in kept}
            found |= more

    def _around(self, execution: str) -> TaskState | None:
        """Return the task that an execution ran inside; ``None`` when there is none."""
        for place in reversed(self_and_above(above(execution))):
            row = self.tasks.by_place(place)
            if row is not None:
                return row
        return None

    def _rows(self, execution: str) -> list[TaskState]:
        """Return the tasks of an execution: those of its definition, in its order, then others."""
        lines = _list(self._definitions.get(execution, {}).get("tasks"))
        seen: dict[str, int] = {}
        rows: list[TaskState] = []
        for line in lines:
            key = str(line.get("key") or "")
            number = seen[key] = seen.get(key, -1) + 1
            rows += self.tasks.by_key(execution, key)[number : number + 1]
        known = {id(row) for row in rows}
        return [*rows, *(row for row in self.tasks.of(execution) if id(row) not in known)]

    def _uses(self, execution: str, count: int) -> list[set[int]]:
        """Return for each task the numbers of those whose output it is given."""
        tasks = self._content(execution, "tasks")
        return [_context(tasks[n] if n < len(tasks) else {}, n) for n in range(count)]

    def _using_inputs(self, execution: str, names: Collection[str]) -> Iterable[TaskState]:
        """Return the tasks whose texts name an edited input; below a flow: all."""
        if not self._content(execution, "tasks"):
            below = execution + "/"
            return [row for row in self._state.tasks if (row.execution + "/").startswith(below)]
        marks = [f"{{{name}}}" for name in names]
        rows = self._rows(execution)
        return [row for n, row in enumerate(rows) if self._names(execution, n, marks)]

    def _names(self, execution: str, number: int, marks: Collection[str]) -> bool:
        """Whether the texts that make a task's prompt hold one of the marks."""
        content = self._definitions[execution].get("definition")
        tasks, agents = self._content(execution, "tasks"), self._content(execution, "agents")
        if number >= len(tasks) or not isinstance(content, Mapping) or content.get("before_kickoff_callbacks"):
            return True
        task = tasks[number]
        own = task.get("agent")
        role = own.get("role") if isinstance(own, Mapping) else None
        mine = [agent for agent in agents if agent.get("role") == role]
        alone = mine and content.get("process") != "hierarchical" and not any(a.get("allow_delegation") for a in mine)
        texts = [task.get(name) for name in _TASK_TEXTS]
        texts += [agent.get(name) for agent in (mine if alone else agents) for name in _AGENT_TEXTS]
        return any(isinstance(text, str) and mark in text for text in texts for mark in marks)

    def _content(self, execution: str, name: str) -> list[Mapping[str, Any]]:
        """Return a list of an execution's definition; empty when there is none."""
        content = self._definitions.get(execution, {}).get("definition")
        return _list(content.get(name)) if isinstance(content, Mapping) else []


def _context(task: Mapping[str, Any], number: int) -> set[int]:
    """Return the numbers of the tasks that a task is given; a conditional one also looks at the one before it."""
    context = task.get("context")
    if not isinstance(context, list):
        return set(range(number))
    before = {number - 1} if str(task.get("class", "")).endswith("ConditionalTask") else set()
    return {n for n in context if isinstance(n, int)} | before


def _list(value: Any) -> list[Mapping[str, Any]]:
    """Return the mappings in a list; of anything else none."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
