"""Pages as plain text: what a pipe, a file or a test gets. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from eventlog.cli.output import Block, Facts, Prose, Table
from eventlog.cli.text import harmless


def block_lines(block: Block) -> list[str]:
    """Return one block as lines."""
    if isinstance(block, Facts):
        rows = [(harmless(name).replace("\n", " "), harmless(value)) for name, value in block.rows]
        width = max(len(name) for name, _ in rows)
        return [line for name, value in rows for line in _fact(name.ljust(width), value)]
    if isinstance(block, Prose):
        return [harmless(block.title).upper(), *("  " + line for line in harmless(block.text).split("\n"))]
    return [*([block.title.upper()] if block.title else []), *_table(block)]


def _fact(name: str, value: str) -> list[str]:
    """Return a name and its value; further lines of it are indented."""
    first, *rest = value.split("\n")
    return [f"{name}  {first}".rstrip(), *(f"{'':{len(name)}}  {line}".rstrip() for line in rest)]


def _table(table: Table) -> list[str]:
    """Return headings and rows in columns."""
    rows = [[harmless(cell).replace("\n", " ") for cell in row] for row in table.rows]
    heads = [column.upper() for column in table.columns]
    widths = [max(map(len, cells)) for cells in zip(heads, *rows, strict=True)]
    right = [column in table.right for column in table.columns]
    return [_row(cells, widths, right) for cells in (heads, *rows)]


def _row(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    """Return one row."""
    padded = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)]
    return "  ".join(padded).rstrip()
