"""A process that reads, resumes and executes hostile logs while every dangerous act in it is written down.

``python -m tests.integration.hostile_watch FOLDER`` prints what happened as JSON. What is recorded there is real; then
the names of classes in it, and the values, are replaced by what somebody would write who wants code to run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import io
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, cycle
from pathlib import Path
from typing import Any

from pydantic import BaseModel, field_validator

import eventlog
from eventlog.cli.main import run as command
from eventlog.references import class_name
from eventlog.resume import revive
from tests.integration.hostile import tamper
from tests.integration.resuming import RUN, Seen, cut, perform
from tests.scenarios import build

CANARY = "hostile_canary"
"""A module that writes a file when it is imported; and part of every argument that would do harm."""
DANGEROUS = re.compile(
    r"os\.(system|exec|posix_spawn|spawn|startfile|fork)|subprocess\.|pty\.|ctypes\.|pickle\.|webbrowser\."
    r"|sqlite3\.(enable_)?load_extension"
)
TOUCHING = re.compile(r"compile|exec|open|import|os\.|shutil\.|glob\.|socket\.")
sprung: list[str] = []
alarms: list[str] = []


class TrapModel(BaseModel):
    """A model of the user's that nothing declares."""

    cmd: Any = None

    def __init__(self, **fields: Any) -> None:
        """Do what must not happen."""
        sprung.append("TrapModel.__init__")
        super().__init__(**fields)

    @field_validator("cmd")
    @classmethod
    def check(cls, value: Any) -> Any:
        """Do what must not happen."""
        sprung.append("TrapModel validator")
        return value


@dataclasses.dataclass
class TrapData:
    """A data class of the user's that nothing declares."""

    cmd: Any = None

    def __post_init__(self) -> None:
        """Do what must not happen."""
        sprung.append("TrapData.__post_init__")

    def __del__(self) -> None:
        """Do what must not happen."""
        sprung.append("TrapData.__del__")


class TrapEnum(enum.Enum):
    """An enumeration of the user's that nothing declares."""

    A = "a"

    @classmethod
    def _missing_(cls, _value: object) -> Any:
        """Do what must not happen."""
        sprung.append("TrapEnum._missing_")


class TrapError(Exception):
    """An error of the user's, as loaded as any: recorded errors get their class back."""

    def __new__(cls, *args: Any) -> Any:
        """Do what must not happen."""
        sprung.append("TrapError.__new__")
        return super().__new__(cls, *args)

    def __init__(self, *args: Any) -> None:
        """Do what must not happen."""
        sprung.append("TrapError.__init__")
        super().__init__(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        """Do what must not happen."""
        sprung.append("TrapError.__setattr__")
        super().__setattr__(name, value)


NAMES = (
    "os:system", "subprocess:Popen", "builtins:eval", "builtins:exec", f"{CANARY}:Evil", f"{CANARY}:EvilError",
    *map(class_name, (TrapModel, TrapData, TrapEnum, TrapError)),
)  # fmt: skip
COMMAND = f"touch {CANARY}-was-here"


def trees_of(name: str) -> list[Any]:
    """Return every tag, and the tags of other libraries, with a name in it."""
    return [
        {"$model": name, "fields": {"cmd": COMMAND}}, {"$dataclass": name, "fields": {"cmd": COMMAND}},
        {"$enum": name, "v": COMMAND}, {"$error": name, "msg": COMMAND, "args": [COMMAND]},
        {"$error": name, "msg": "x", "args": {"$model": name, "fields": {}}}, {"$type": name}, {"$function": name},
        {"$object": name, "repr": f"<{name}>"}, {"$ref": "tool", "name": name, "module": name}, {"$ref": name},
        {"$map": [[{"$enum": name, "v": 1}, {"$model": name, "fields": {}}]]}, {"$set": [{"$enum": name, "v": "a"}]},
        {"$tuple": [{"$function": name}, COMMAND]}, {"$path": f"../../{CANARY}"}, {"$bytes": "gASVAAAAAA=="},
        {"$decimal": "1e999999999"}, {"$int": "9" * 10_000}, {"$timedelta": 1e300}, {"$model": [name], "fields": [1]},
        {"py/object": name, "py/reduce": [{"py/type": name}, {"py/tuple": [COMMAND]}]}, {"__class__": name},
        {"$import": name, "$call": [COMMAND]}, {"!!python/object/apply:os.system": [COMMAND]},
    ]  # fmt: skip


TREES = [tree for trees in zip(*map(trees_of, NAMES), strict=True) for tree in trees]
PLANTED = frozenset(("value", "result", "output", "error", "set", "inputs", "content", "response", "message"))
"""Under these keys a value is replaced."""
_NAMED = re.compile(r'("\$(?:model|dataclass|enum|error|type|function|object|ref|cycle)":)"[^"]*"')


def renamed(texts: list[str]) -> Iterator[str]:
    """Yield stored values in which every class has another name."""
    names = cycle(NAMES)
    for text in texts:
        yield _NAMED.sub(lambda found: f'{found[1]}"{next(names)}"', text)


def planted(texts: list[str]) -> Iterator[str]:
    """Yield stored values in which what is revived is something else."""
    trees = cycle(TREES)
    for text in texts:
        try:
            yield json.dumps(_planted(json.loads(text), trees))
        except ValueError:  # a long text
            yield text


def _planted(tree: Any, trees: Iterator[Any]) -> Any:
    """Return a value with something else under the keys that matter."""
    if isinstance(tree, list):
        return [_planted(item, trees) for item in tree]
    if not isinstance(tree, dict) or "$content" in tree:
        return tree
    return {k: next(trees) if k in PLANTED and v != {} else _planted(v, trees) for k, v in tree.items()}


def make_hostile(path: Path, change: Callable[[list[str]], Iterator[str]]) -> Path:
    """Replace every stored value of a log."""
    with eventlog.open(path, readonly=True) as log:
        found = {
            (table, key, column): log.reader.query(f"SELECT {key}, {column} FROM {table} ORDER BY {key}")
            for table, key, column in (
                ("events", "seq", "payload"), ("contents", "id", "body"), ("snapshots", "id", "state")
            )
        }  # fmt: skip
    for (table, key, column), rows in found.items():
        texts = change([text for _, text in rows])
        sql = f"UPDATE {table} SET {column} = ? WHERE {key} = ?"
        tamper(path, *((sql, (text, row)) for (row, _), text in zip(rows, texts, strict=True)))
    return path


# -- what is done with them --------------------------------------------------------------------------


def commands_on(path: Path, folder: Path, tag: str) -> Iterator[tuple[str, Any]]:
    """Yield the exit code of every command that reads the log, and that brings its events into another one."""
    other, lines = folder / f"other-{tag}.db", folder / f"{tag}.jsonl"
    for words in (
        ["log", "--json"], ["log", "--paths"], ["show", "3"], ["replay", RUN, "--full"], ["replay", RUN, "--json"],
        ["stats"], ["branches", RUN], ["diff", RUN, f"{RUN}@5"], ["doctor", "--no-probe"], ["verify", "--deep"],
        ["replay", RUN, "--play", "0"], ["export", RUN, "--format", "crewai-checkpoint", "-o", f"{lines}.json"],
        ["export", RUN, "-o", lines], ["fork", RUN, "--to", "9"],
        ["repair", "--into", folder / f"repaired-{tag}.db"], ["compact", "--max-checkpoints", "0"],
    ):  # fmt: skip
        yield f"{words[0]}", command([*map(str, words), "--db", str(path)])
    yield "import", command(["import", str(lines), "--db", str(other)])
    yield "replay imported", command(["replay", RUN, "--json", "--db", str(other)])


def resumptions_of(whole: Seen, path: Path, folder: Path, tag: str) -> Iterator[tuple[str, Any]]:
    """Yield what became of going on from hostile logs, and of executing them again."""
    last = whole.events[-1].seq
    for seq in (last * 1 // 3, last * 2 // 3, last - 2):
        target = cut(path, seq, folder / f"cut-{tag}-{seq}.db")
        yield "resume", type(perform(build(whole.name), target).error).__name__
    with eventlog.open(path) as log:
        for _ in range(2):
            scenario = build(whole.name)
            try:
                yield "reexecute", type(log.run(RUN).reexecute(scenario.subject).error).__name__
            except eventlog.EventLogError as error:
                yield "reexecute refused", type(error).__name__


def watch(event: str, args: tuple[Any, ...]) -> None:
    """Write down what must not happen."""
    if DANGEROUS.match(event) or (TOUCHING.match(event) and CANARY in _shown(args)):
        alarms.append(f"{event} {_shown(args)[:200]}")


def _shown(args: tuple[Any, ...]) -> str:
    """Return the arguments of an event that are plain values."""
    return " ".join(repr(arg)[:2000] for arg in args if isinstance(arg, (str, bytes, tuple, list)))


def main(folder: Path) -> None:
    """Record, make hostile, watch, do everything, tell."""
    (folder / f"{CANARY}.py").write_text(f"open({str(folder / 'imported')!r}, 'w')\nclass Evil: pass\n", "utf-8")
    sys.path.insert(0, str(folder))
    wholes = [perform(build(name), folder / f"{name}.db") for name in ("flow_objects", "failing_tool_native")]
    seen: Counter[str] = Counter()
    real = revive._tagged
    revive._tagged = lambda tag, tree, *a, **k: (seen.update([tag]), real(tag, tree, *a, **k))[1]
    done: Counter[str] = Counter()
    for change in (renamed, planted):
        for whole in wholes:
            tag = f"{whole.name}-{change.__name__}"
            path = cut(whole.file, whole.events[-1].seq, folder / f"{tag}.db")
            make_hostile(path, change)
            if not done:  # what is imported lazily was imported now
                warm = cut(whole.file, whole.events[-1].seq, folder / "warm.db")
                Counter(chain(resumptions_of(whole, warm, folder, "warm"), commands_on(warm, folder, "warm")))
                sprung.clear()
                seen.clear()
                sys.addaudithook(watch)
            for what, outcome in (*resumptions_of(whole, path, folder, tag), *commands_on(path, folder, tag)):
                done[f"{what}: {outcome}"] += 1
    report = {"alarms": alarms, "sprung": sprung, "revived": seen, "done": done}
    os.write(OUT, json.dumps(report).encode())


if __name__ == "__main__":
    OUT = os.dup(1)
    with contextlib.redirect_stdout(io.StringIO()):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        main(Path(sys.argv[1]))
