"""``eventlog memory``: what agents found, searched, listed, and with its history."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import click
import msgspec

from eventlog.cli.opening import reading
from eventlog.cli.options import Settings, examples, shared_options
from eventlog.cli.output import Facts, Prose, Table, note, show_json, show_page
from eventlog.cli.text import as_text, moment, one_line
from eventlog.errors import AmbiguousCursorError
from eventlog.ledger.memories import SCOPES, MemoryChange, MemoryEntry, MemoryMatch
from eventlog.ledger.memory import Memory
from eventlog.log import Log
from eventlog.record import MAIN_BRANCH
from eventlog.replay.state import iso_utc

VALUE_CHARS_MAX = 80
ID_CHARS = 12
"""Shown of an id in a table; ``show`` takes the beginning of one."""
PREFIX_CHARS_MIN = 4


class Where(msgspec.Struct, frozen=True):
    """Whose memory is asked, by whom, and at which moment."""

    namespace: str | None
    run: str | None
    branch: str | None
    agent: str | None
    to: str | None

    def memory(self, log: Log) -> Memory:
        """Return the memory that is meant."""
        if self.run is not None and self.branch is None:
            log.cursor(None, self.run)  # the run must be there
        return Memory(log, self.run or "", self.branch or MAIN_BRANCH, self.namespace)


def _where_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say whose memory is meant; the command gets them as ``where``."""

    @click.option("--namespace", metavar="NAME", help="Only this namespace, and what is global.")
    @click.option("--run", metavar="RUN", help="As this run sees it; its name is the namespace, unless one is given.")
    @click.option("--branch", metavar="NAME", help="As this branch of RUN sees it. [default: main]")
    @click.option("--agent", metavar="NAME", help="As this agent, who also sees what is private to it.")
    @click.option("--to", metavar="CURSOR", help="As of then: a seq, an ISO time, an event id, or latest.")
    @functools.wraps(command)
    def with_where(
        *args: Any, namespace: str | None, run: str | None, branch: str | None, agent: str | None, to: str | None,
        **rest: Any,
    ) -> Any:  # fmt: skip
        if branch is not None and run is None:
            raise click.UsageError("--branch needs --run")
        return command(*args, where=Where(namespace, run, branch, agent, to), **rest)

    return with_where


def _filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that narrow a list."""
    for option in (
        click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="At most so many."),
        click.option(
            "--meta", multiple=True, metavar="K=V",
            help="Only what has this in its metadata; V is a text, or a JSON number, true or false; repeatable.",
        ),
        click.option("--scope", type=click.Choice(SCOPES), help="Only what has this scope."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.group(
    epilog=examples(
        'eventlog memory search "vulnerabilities in auth"',
        "eventlog memory search auth --namespace security-audit --meta severity=critical",
        "eventlog memory list --run audit --agent scanner --to 2026-01-15T12:00",
        "eventlog memory show 3f9a2c",
    )
)
def memory() -> None:
    """Look up what agents and programs remembered: search it, list it, show one with its history.

    Without --namespace and --run: of every namespace. What is private to an agent is shown with
    --agent only. Of forks, what they remember is seen with --run and --branch.
    """


@memory.command(epilog=examples('eventlog memory search "vulnerabilities in auth" --meta severity=critical'))
@click.argument("query")
@_where_options
@_filter_options
@shared_options
def search(settings: Settings, query: str, where: Where, scope: str | None, meta: tuple[str, ...], limit: int) -> None:
    """Find what shares words with QUERY, the best first.

    Words are looked for in all their forms and in any order, in values and metadata; each that is
    shared counts, rare ones more (BM25). Operators mean nothing. An empty QUERY finds everything,
    what changed last first.
    """
    with reading(settings) as log:
        found = where.memory(log).search(
            query, limit=limit, metadata=_metadata(meta), agent=where.agent, scope=scope, to=where.to
        )
    _show(settings, found)


@memory.command(
    "list", epilog=examples("eventlog memory list --namespace security-audit", "eventlog memory list --json")
)
@_where_options
@_filter_options
@shared_options
def list_memories(settings: Settings, where: Where, scope: str | None, meta: tuple[str, ...], limit: int) -> None:
    """List what is remembered, what changed last first."""
    with reading(settings) as log:
        found = where.memory(log).all(metadata=_metadata(meta), agent=where.agent, scope=scope, to=where.to)
    _show(settings, found[:limit])
    if len(found) > limit and not settings.as_json:
        note(f"{len(found) - limit} more; see --limit")


@memory.command(epilog=examples("eventlog memory show 3f9a2c", "eventlog memory show 3f9a2c --agent scanner --json"))
@click.argument("name", metavar="ID")
@_where_options
@shared_options
def show(settings: Settings, name: str, where: Where) -> None:
    """Show one memory whole, and who said what of it, and when.

    ID may be the beginning of an id. Of a deleted one its whole id shows the history.
    """
    with reading(settings) as log:
        asked = where.memory(log)
        entries = {entry.id: entry for entry in asked.all(agent=where.agent, to=where.to)}
        whole = _whole_id(name, entries)
        entry, changes = entries.get(whole), asked.history(whole, agent=where.agent, to=where.to)
    if settings.as_json:
        show_json({"memory": None if entry is None else _as_json(entry), "history": [_change(it) for it in changes]})
        return
    columns = ("seq", "when", "what", "by", "run", "value or reason")
    history = Table("history", columns, [_change_row(it) for it in changes], right=("seq",))
    show_page([*_blocks(entry), history])
    if entry is None:
        note("it was deleted")


def _whole_id(name: str, known: Iterable[str]) -> str:
    """Return the id that begins with ``name``, or ``name`` itself.

    Raises:
        AmbiguousCursorError: several do.
    """
    ids = list(known)
    if name in ids or len(name) < PREFIX_CHARS_MIN:
        return name
    found = [whole for whole in ids if whole.startswith(name)]
    if len(found) > 1:
        raise AmbiguousCursorError(name, len(found))
    return found[0] if found else name


def _metadata(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Return what ``--meta`` says."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise click.UsageError(f"--meta {pair}: write K=V")
        try:
            found[name] = msgspec.json.decode(text)
        except (msgspec.MsgspecError, UnicodeError):
            found[name] = text
    return found


# -- pages --------------------------------------------------------------------------------------------


def _show(settings: Settings, found: list[MemoryMatch] | list[MemoryEntry]) -> None:
    """Show what was found."""
    if settings.as_json:
        show_json([_as_json(entry) for entry in found])
    elif not found:
        note("nothing found; what is private shows with --agent, what a fork remembers with --run and --branch")
    else:
        columns = ("score", "id", "namespace", "scope", "agent", "value", "metadata")
        rows = [_row(entry) for entry in found]
        scored = any(isinstance(entry, MemoryMatch) for entry in found)
        cut = 0 if scored else 1
        show_page([Table("", columns[cut:], [row[cut:] for row in rows], right=("score",))])


def _row(entry: MemoryEntry) -> tuple[str, ...]:
    """Return a row for people."""
    score = f"{entry.score:.3g}" if isinstance(entry, MemoryMatch) else ""
    return (
        score, one_line(entry.id, ID_CHARS + 1) if len(entry.id) <= ID_CHARS else one_line(entry.id[:ID_CHARS]),
        one_line(entry.namespace, 30), entry.scope, one_line(entry.agent, 20),
        one_line(entry.value, VALUE_CHARS_MAX), _facts_line(entry.metadata),
    )  # fmt: skip


def _facts_line(metadata: dict[str, Any]) -> str:
    """Return metadata in a line."""
    return one_line(", ".join(f"{name}={as_text(value)}" for name, value in metadata.items()), 40)


def _blocks(entry: MemoryEntry | None) -> list[Facts | Prose]:
    """Return one memory for people."""
    if entry is None:
        return []
    facts = [
        ("id", entry.id), ("namespace", entry.namespace), ("scope", entry.scope), ("agent", entry.agent or ""),
        ("run", entry.run or ""), ("metadata", _facts_line(entry.metadata)),
        ("created", moment(entry.created_at_ns)), ("updated", moment(entry.updated_at_ns)),
    ]  # fmt: skip
    return [Facts([(name, text) for name, text in facts if text]), Prose("value", as_text(entry.value))]


def _change_row(change: MemoryChange) -> tuple[str, ...]:
    """Return a row of a history."""
    said = change.reason if change.action == "deleted" else change.value
    if said is None and change.metadata is not None:
        said = _facts_line(change.metadata)
    return (
        str(change.seq), moment(change.at_ns)[:19], change.action, one_line(change.by, 20), one_line(change.run, 30),
        one_line(said, VALUE_CHARS_MAX),
    )  # fmt: skip


def _as_json(entry: MemoryEntry) -> dict[str, Any]:
    """Return an object for programs."""
    facts: dict[str, Any] = msgspec.structs.asdict(entry)
    created, updated = facts.pop("created_at_ns"), facts.pop("updated_at_ns")
    return {**facts, "created_at": iso_utc(created), "updated_at": iso_utc(updated)}


def _change(change: MemoryChange) -> dict[str, Any]:
    """Return an object for programs."""
    facts: dict[str, Any] = msgspec.structs.asdict(change)
    return {**facts, "at": iso_utc(facts.pop("at_ns"))}
