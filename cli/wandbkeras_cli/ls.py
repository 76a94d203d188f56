"""``wandbkeras ls``: the runs of a store, without network."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from wandbkeras.errors import DamagedError, WandbkerasError, gravest
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.shortage import counts_text
from wandbkeras.store.wording import counted
from wandbkeras.sync.receipt import sync_state
from wandbkeras_cli.output import (
    failure,
    human_size,
    human_time,
    json_option,
    print_json,
    print_table,
    say,
)
from wandbkeras_cli.paths import run_directories, state_dir_option

_BEST = "best_"
# So many runs take longer to read than processes to start; on a shared file system, which answers
# slowly, several wait at once.
_MANY, _CHUNK, _MOST_PROCESSES = 1_000, 100, 8


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@state_dir_option
@json_option
def ls(paths: tuple[Path, ...], state_dir: Path | None, as_json: bool) -> None:
    """List the runs in PATHS (stores or runs; default: ./runs).

    Shows each run's state, epochs, best metric, size and whether it has arrived on a server.
    Needs no network and changes nothing.

    \b
    Example:
      wandbkeras ls runs
    """
    described = _all_described(run_directories(paths or (Path("runs"),)), state_dir)
    code = gravest(entry.pop("exit_code") for entry in described)
    if as_json:
        print_json({"runs": described, "exit_code": code})
    else:
        _print(described)
    _print_troubles(described)
    click.get_current_context().exit(code)


def _all_described(paths: Sequence[Path], state_dir: Path | None) -> list[dict[str, Any]]:
    """Describe the runs in their order; many of them by several processes."""
    describe = partial(_describe, state_dir=state_dir)
    if len(paths) < _MANY:
        return [*map(describe, paths)]
    from concurrent.futures import ProcessPoolExecutor  # takes longer to import than to list a few

    workers = min(_MOST_PROCESSES, os.cpu_count() or 1)
    # Ctrl-C goes to them, too, and is this process's to say.
    ignored = (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(workers, initializer=signal.signal, initargs=ignored) as pool:
        return [*pool.map(describe, paths, chunksize=_CHUNK)]


def _describe(path: Path, state_dir: Path | None) -> dict[str, Any]:
    """Return what is known of a run; for one that can't be read, the reason."""
    try:
        run = StoredRun(path)
        summary = run.summary
        epoch = summary.get("epoch")
        return {
            "path": str(path),
            "id": run.info.id,
            "name": run.info.name,
            "project": run.info.project,
            "state": run.state,
            "exit_code_of_run": run.exit_code,
            "created": run.info.created,
            "rows": run.row_count,
            "epochs": int(epoch) + 1 if isinstance(epoch, (int, float)) else None,
            "best": {
                key.removeprefix(_BEST): value
                for key, value in summary.items()
                if key.startswith(_BEST)
            },
            "artifacts": len(run.folded.artifacts),
            "size": run.size,
            "dropped": run.folded.dropped,
            "dropped_events": run.folded.dropped_events,
            "damage": run.damage,
            "lost": run.lost,
            "synced": sync_state(run, state_dir),
            "error": None,
            "exit_code": DamagedError.exit_code if run.damage else 0,
        }
    except (WandbkerasError, OSError) as error:
        return {"path": str(path), **failure(path, error)}


def _print(runs: list[dict[str, Any]]) -> None:
    header = ("RUN", "NAME", "PROJECT", "STATE", "CREATED", "ROWS", "EPOCHS", "BEST", "SIZE")
    good = [run for run in runs if run["error"] is None]
    if good:
        rows = [
            (
                run["id"],
                run["name"] or "-",
                run["project"] or "-",
                run["state"],
                human_time(run["created"]),
                str(run["rows"]),
                "-" if run["epochs"] is None else str(run["epochs"]),
                _best_text(run["best"]),
                human_size(run["size"]),
                run["synced"],
            )
            for run in good
        ]
        print_table((*header, "SYNCED"), rows)


def _print_troubles(runs: list[dict[str, Any]]) -> None:
    good = [run for run in runs if run["error"] is None]
    for run in good:
        if counts := counts_text(run["dropped"], run["dropped_events"]):
            say(f"{run['id']}: {counts} could not be recorded", err=True)
        for line in run["damage"]:
            say(f"{run['id']}: damaged: {line}", err=True)
        if run["lost"]:
            places = counted(len(run["lost"]), "damaged place")
            say(f"{run['id']}: {places} lost: see `wandbkeras show {run['path']}`", err=True)
    for run in runs:
        if run["error"] is not None:
            say(f"wandbkeras: {run['error']}", err=True)


def _best_text(best: dict[str, Any]) -> str:
    epoch = best.get("epoch")
    texts = [f"{k} {v:.5g}" for k, v in best.items() if k != "epoch" and isinstance(v, float)]
    suffix = f" (epoch {epoch})" if texts and epoch is not None else ""
    return ", ".join(texts) + suffix or "-"
