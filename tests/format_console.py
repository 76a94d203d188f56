"""The console of a run, from docs/format.md alone: what its processes printed, by writer and line.

It stands on ``tests/format_reader.py``, and shares no line with the package either.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.format_reader import (
    NUMBER,
    UnreadableError,
    owners,
    read_manifest,
    read_parts,
    read_segment,
)

LINE = (int, str, NUMBER, str)


def read_console(root: Path) -> list[tuple[int, int, list[Any]]]:
    """Return attempt, writer, and a line's number, stream, time and text, in order (Console)."""
    return [(*owner, line) for owner in owners(root) for line in _lines(root, *owner)]


def _lines(root: Path, attempt: int, writer: int) -> list[list[Any]]:
    parts = list(read_parts(root, read_manifest(root, attempt, writer)["parts"], "console"))
    if parts:
        names = ("line", "stream", "_timestamp", "text")
        return [[row[name] for name in names] for row in parts]
    found: dict[int, list[Any]] = {}
    paths = (root / f"attempts/{attempt:03d}").glob(f"console-{writer:03d}-*.wbk")
    for path in sorted(paths, key=lambda path: int(re.findall(r"\d+", path.name)[1])):
        _, records = read_segment(path.read_bytes())
        for _, lines in (record for record in records if record[0] == "console"):
            for line in lines:
                if not all(map(isinstance, line, LINE)):
                    raise UnreadableError("shape")
                found[line[0]] = line
    return [found[number] for number in sorted(found)]
