"""``wandbkeras logs``: what a run printed, without network."""

from __future__ import annotations

import re
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from wandbkeras.errors import DamagedError
from wandbkeras_cli.output import json_option, print_json
from wandbkeras_cli.paths import find_run, one_run

# Colours are the first group; tabs are none of them.
_CONTROL = re.compile("(\x1b\\[[0-9;]*m)|[\x00-\x08\x0a-\x1f\x7f-\x9f]")


@click.command()
@one_run
@click.option("--last", type=click.IntRange(min=0), help="Only so many lines, the last ones.")
@click.option("--times", is_flag=True, help="With the time of each line, in UTC.")
@json_option
def logs(run: str, store: Path, last: int | None, times: bool, as_json: bool) -> None:
    """Print what one RUN printed: a run directory, or the id of a run in --store.

    What went to standard error goes there again; a progress bar is there in its last state.

    \b
    Example:
      wandbkeras logs k3j9x2ab --last 20
      wandbkeras logs runs/run-20261123_054500-k3j9x2ab --times
    """
    stored = find_run(run, store)
    lines = [_line(row) for row in stored.console().to_pylist()]
    missing = _missing(lines)
    lines = lines if last is None else lines[len(lines) - last :] if last else []
    code = DamagedError.exit_code if stored.damage else 0
    if as_json:
        document = {"path": str(stored.path), "lines": lines, "not_kept": missing}
        print_json({**document, "damage": stored.damage, "exit_code": code})
    else:
        for line in lines:
            _print(line, times=times)
        sys.stdout.flush()
        if missing:
            click.echo(f"wandbkeras: {missing} lines are not kept (console_max_bytes)", err=True)
        for text in stored.damage:
            click.echo(f"wandbkeras: damaged: {text}", err=True)
    click.get_current_context().exit(code)


def _line(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "time": row["_timestamp"],
        "attempt": row["_attempt"],
        "writer": row["_writer"],
        "line": row["line"],
        "stream": row["stream"],
        "text": row["text"],
    }


def _missing(lines: list[dict[str, Any]]) -> int:
    """Return how many lines of the writers are not there, by their numbers."""
    ends: dict[tuple[int, int], int] = {}
    for line in lines:
        ends[line["attempt"], line["writer"]] = line["line"] + 1
    return sum(ends.values()) - len(lines)


def _print(line: dict[str, Any], *, times: bool) -> None:
    moment = datetime.fromtimestamp(line["time"], tz=timezone.utc)
    time = f"{moment:%Y-%m-%d %H:%M:%S} " if times else ""
    writer = f"[{line['writer']}] " if line["writer"] else ""
    # A stranger's run may hold more than colours for whoever's terminal this is.
    text = _CONTROL.sub(lambda found: found[1] or "", line["text"])
    click.echo(f"{time}{writer}{text}", err=line["stream"] == "stderr")
