"""The tasks of a state, found by id, path or key without a scan. Pure.

An id names one task of an execution, a path names one task of the run: a task that takes over
another's loses it for the other. So the index of a state is the same however it came about.
"""

from __future__ import annotations

from collections.abc import Sequence

from eventlog.replay.path import short_key, split_task_place, task_place
from eventlog.replay.state import TaskState


class TaskIndex:
    """Finds rows of ``RunState.tasks`` and appends to them."""

    def __init__(self, rows: list[TaskState]) -> None:
        """Index ``rows``, which ``add`` appends to."""
        self._rows = rows
        self._by_id: dict[tuple[str, str], TaskState] = {}
        self._by_path: dict[str, TaskState] = {}
        self._by_key: dict[tuple[str, str], list[TaskState]] = {}
        self._by_execution: dict[str, list[TaskState]] = {}
        for row in rows:
            self._index(row)

    def add(self, row: TaskState) -> TaskState:
        """Append a row that has neither id nor path yet, and return it."""
        self._rows.append(row)
        self._index(row)
        return row

    def by_id(self, execution: str, task_id: str) -> TaskState | None:
        """Return the task of an execution that has this id."""
        return self._by_id.get((execution, task_id)) if task_id else None

    def by_path(self, path: str) -> TaskState | None:
        """Return the task that ran at ``path``."""
        return self._by_path.get(path)

    def by_place(self, place: str) -> TaskState | None:
        """Return the task that runs at a place, whether it has begun or not."""
        parts = split_task_place(place)
        if parts is None:
            return self.by_path(place)
        execution, key, number = parts
        alike = [row for row in self.of(execution) if short_key(row.key) == key]
        return alike[number] if number < len(alike) else self.by_path(place)

    def place_of(self, row: TaskState) -> str:
        """Return where a task runs, the same in every process; see ``by_place``."""
        if row.path and row.path == row.execution:  # outside a crew
            return row.path
        alike = [other for other in self.of(row.execution) if short_key(other.key) == short_key(row.key)]
        return task_place(row.execution, row.key, next(n for n, other in enumerate(alike) if other is row))

    def by_key(self, execution: str, key: str) -> Sequence[TaskState]:
        """Return the tasks of an execution that have this key, in order: their occurrences."""
        return self._by_key.get((execution, key), ())

    def of(self, execution: str) -> Sequence[TaskState]:
        """Return all tasks of an execution, in order."""
        return self._by_execution.get(execution, ())

    def set_id(self, row: TaskState, task_id: str) -> None:
        """Make ``task_id`` the id of ``row``, and of no other task of its execution."""
        if not task_id or row.id == task_id:
            return
        self._by_id.pop((row.execution, row.id), None)
        holder = self._by_id.get((row.execution, task_id))
        if holder is not None:
            holder.id = ""
        row.id = task_id
        self._by_id[row.execution, task_id] = row

    def set_path(self, row: TaskState, path: str) -> None:
        """Make ``path`` the path of ``row``, and of no other task."""
        if not path or row.path == path:
            return
        self._by_path.pop(row.path, None)
        holder = self._by_path.get(path)
        if holder is not None:
            holder.path = ""
        row.path = path
        self._by_path[path] = row

    def _index(self, row: TaskState) -> None:
        """Make a row findable."""
        if row.id:
            self._by_id[row.execution, row.id] = row
        if row.path:
            self._by_path[row.path] = row
        self._by_key.setdefault((row.execution, row.key), []).append(row)
        self._by_execution.setdefault(row.execution, []).append(row)
