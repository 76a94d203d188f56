"""The console of a run as W&B's Logs page shows it: its lines, and what a server lacks of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wandbkeras.store.reader import StoredRun

# W&B's client cuts a line there.
MAX_LINE = 4_096
# More lines are compared by the last ones only.
ALL_LINES, LAST_LINES = 10_000, 1_000
# Where the end of a traceback is looked for.
_END = 200


@dataclass(frozen=True)
class ConsoleLine:
    """A line on standard error or not; ``timestamp`` in seconds since the epoch."""

    text: str
    is_error: bool
    timestamp: float


def console_lines(run: StoredRun, hidden: Sequence[str], mask: str) -> list[ConsoleLine]:
    """Return what the run printed, with ``mask`` in the place of the ``hidden`` texts.

    The traceback of the exception that ended it is the end, unless that was printed.
    """
    found = _printed(run)
    traceback = run.traceback
    if traceback is not None:
        lines = traceback.rstrip("\n").split("\n")
        if lines[-1][:MAX_LINE] not in {line.text for line in found[-_END:]}:
            time = run.folded.last_seen
            found += [ConsoleLine(line[:MAX_LINE].rstrip(" "), True, time) for line in lines]
    for text in hidden:
        found = [replace(line, text=line.text.replace(text, mask)) for line in found]
    return found


def _printed(run: StoredRun) -> list[ConsoleLine]:
    """Return the lines, those of several writers of an attempt in the order of time."""
    found: list[tuple[int, ConsoleLine]] = []
    expected: dict[tuple[int, int], int] = {}
    several: set[int] = set()
    for row in run.console().to_pylist():
        attempt, writer, number, time = (
            row[name] for name in ("_attempt", "_writer", "line", "_timestamp")
        )
        label = f"[{writer}] " if writer else ""
        several |= {attempt} if writer else set()
        if missing := number - expected.get((attempt, writer), 0):
            text = f"{label}… {missing} lines are not kept …"
            found.append((attempt, ConsoleLine(text, False, time)))
        expected[attempt, writer] = number + 1
        text = f"{label}{row['text']}"[:MAX_LINE].rstrip(" ")
        found.append((attempt, ConsoleLine(text, row["stream"] == "stderr", time)))
    found.sort(key=lambda item: (item[0], item[1].timestamp if item[0] in several else 0))
    return [line for _, line in found]


def console_differences(
    expected: Sequence[ConsoleLine], held: Mapping[int, tuple[str | None, str]] | None
) -> Iterator[str]:
    """Yield in what the lines differ from those that a server gives, by their numbers.

    Of many lines it gives the last. None: it can't be asked.
    """
    if held is None:
        return
    first = 0 if len(expected) <= ALL_LINES else len(expected) - LAST_LINES
    for number in range(first, len(expected)):
        line, given = expected[number], held.get(number)
        wanted: tuple[Any, str] = ("error" if line.is_error else None, line.text)
        if given is None:
            yield f"console: line {number} of {len(expected)} is missing"
            return
        if (given[0] or None, given[1]) != wanted:
            yield f"console: line {number}: expected {wanted!r:.120}, found {given!r:.120}"
            return
    if held and max(held) >= len(expected):
        yield f"console: expected {len(expected)} lines, found {max(held) + 1}"
