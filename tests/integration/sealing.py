"""Encrypted logs as tests use them: a key, and a search through everything that is on the disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

KEY = "correct horse battery staple"
OTHER_KEY = "tr0ub4dor and 3"


def on_disk(folder: Path, names: str = "*") -> dict[str, bytes]:
    """Return the raw bytes of the files of a folder, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob(names)) if path.is_file()}


def found_in(files: dict[str, bytes], words: Iterable[str]) -> set[tuple[str, str]]:
    """Return which words stand in which files, in upper, lower or their own case."""
    return {(word, name) for word in words for name, data in files.items() if word.lower().encode() in data.lower()}
