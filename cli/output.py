"""What a command says: pages for people, JSON for programs, both to stdout; notes to stderr.

A page is plain text unless stdout is a terminal; only then is rich imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
import msgspec

from eventlog.cli.text import harmless, harmless_json


class Facts(msgspec.Struct):
    """Names and values, one pair a line."""

    rows: Sequence[tuple[str, str]]


class Table(msgspec.Struct):
    """Rows under headings; columns named in ``right`` hold numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[str] = ()


class Prose(msgspec.Struct):
    """A text of several lines under a title."""

    title: str
    text: str


Block = Facts | Table | Prose


def show_page(blocks: Iterable[Block]) -> None:
    """Write a page to stdout; blocks that hold nothing are left out."""
    full = [block for block in blocks if (block.text if isinstance(block, Prose) else block.rows)]
    if is_terminal():
        from eventlog.cli.pages_rich import print_blocks

        print_blocks(full)
    else:
        from eventlog.cli.pages_plain import block_lines

        for number, block in enumerate(full):
            write_line("\n" * (number > 0) + "\n".join(block_lines(block)))


def show_json(value: Any) -> None:
    """Write one JSON document to stdout."""
    write_line(harmless_json(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()))


def write_json_line(value: Any) -> None:
    """Write one line of JSON Lines to stdout."""
    write_line(harmless_json(msgspec.json.encode(value).decode()))


def write_line(text: str) -> None:
    """Write text and a line break to stdout; what its encoding has no character for is escaped."""
    try:
        click.echo(text)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding
        click.echo(text.encode(encoding, "backslashreplace").decode(encoding))


def flush() -> None:
    """Let whoever reads our output see it now."""
    if sys.stdout is not None:
        sys.stdout.flush()


def note(text: str) -> None:
    """Tell a person something beside the result: on stderr; no further line of it looks like another message."""
    click.echo(harmless(text).replace("\n", "\n  "), err=True)


def is_terminal() -> bool:
    """Whether stdout is a terminal that wants colours."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout is not None and sys.stdout.isatty() and not plain
