"""What the commands print: aligned text for people, one JSON document for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from wandbkeras.errors import StoreError, WandbkerasError

# Of a line that may hold what somebody else wrote.
_LONGEST = 2_000

json_option: Callable[[Any], Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document, for programs."
)


def print_json(document: Mapping[str, Any]) -> None:
    """Print a JSON document; numbers that JSON lacks become null."""
    click.echo(json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns, two spaces apart, as wide as their widest cell."""
    cells = [[one_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )
    click.echo("\n".join(lines))


def one_line(text: str) -> str:
    """Return what a terminal prints as it is: names in a run may come from a stranger.

    >>> one_line("red: \\x1b[31m, a line\\n")
    'red: \\\\x1b[31m, a line\\\\n'
    """
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(text: str, *, err: bool = False) -> None:
    """Print one line, whatever is in the names that it quotes."""
    click.echo(one_line(text), err=err)


def error_document(error: WandbkerasError | None) -> dict[str, Any] | None:
    """Return an error for programs, None if there is none."""
    if error is None:
        return None
    return {
        "class": type(error).__name__,
        "message": str(error),
        "exit_code": error.exit_code,
        "retryable": error.retryable,
    }


def failure(path: Path, error: WandbkerasError | OSError) -> dict[str, Any]:
    """Return what a command's document says of a run that it can't do its work on.

    >>> failure(Path("runs/a"), OSError("stale file handle"))
    {'error': 'runs/a: stale file handle', 'exit_code': 3}
    """
    if isinstance(error, WandbkerasError):
        return {"error": str(error), "exit_code": error.exit_code}
    return {"error": f"{path}: {error}", "exit_code": StoreError.exit_code}


def human_size(size: int) -> str:
    """Return a number of bytes with a unit.

    >>> human_size(999), human_size(2_500_000)
    ('999 B', '2.5 MB')
    """
    number = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def human_time(moment: float, *, seconds: bool = False) -> str:
    """Return a moment, given in seconds since the epoch, in UTC.

    >>> human_time(1795412700.0), human_time(1795412700.0, seconds=True)
    ('2026-11-23 05:45', '2026-11-23 05:45:00')
    """
    pattern = "%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M"
    return datetime.fromtimestamp(moment, tz=timezone.utc).strftime(pattern)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
