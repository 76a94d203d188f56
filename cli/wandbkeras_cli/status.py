"""``wandbkeras status``: what is synced where, what is pending, what failed and why."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from wandbkeras.errors import SyncError, WandbkerasError, gravest
from wandbkeras.store.live import LiveState
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.wording import counted
from wandbkeras.sync.status import Pending, Place, Status, run_status
from wandbkeras_cli.output import (
    failure,
    human_size,
    human_time,
    json_option,
    print_json,
    print_table,
    say,
)
from wandbkeras_cli.paths import run_directories, selected, selection_options, state_dir_option


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@selection_options
@state_dir_option
@json_option
def status(
    paths: tuple[Path, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Show what of the runs in PATHS (stores or runs; default: ./runs) has arrived where.

    Reads receipts, and the reasons that failed syncs left beside them. Needs no network and changes
    nothing. Exit status 0: all of every run is somewhere; 6: something is pending; the code of the
    failure if the last try failed.

    \b
    Example:
      wandbkeras status runs
    """
    directories = selected(run_directories(paths or (Path("runs"),)), include, exclude)
    described = [_describe(path, state_dir) for path in directories]
    code = gravest(entry.pop("exit_code") for entry in described)
    if as_json:
        print_json({"runs": described, "exit_code": code})
    else:
        _print(described)
    for run in described:
        if run["error"] is not None:
            say(f"wandbkeras: {run['error']}", err=True)
    click.get_current_context().exit(code)


def _describe(path: Path, state_dir: Path | None) -> dict[str, Any]:
    """Return where a run is; for one that can't be read, the reason."""
    try:
        found = run_status(StoredRun(path, strict=True), state_dir)
    except (WandbkerasError, OSError) as error:
        return {"path": str(path), **failure(path, error)}
    return {
        "path": str(path),
        "run_id": found.run_id,
        "name": found.name,
        "state": found.state,
        "arrived": found.arrived,
        "pending": asdict(found.pending),
        "destinations": [_place(place) for place in found.places],
        "live": _live(found.live),
        "error": None,
        "exit_code": _exit_code(found),
    }


def _exit_code(found: Status) -> int:
    failures = [place.failure.exit_code for place in found.places if place.failure is not None]
    return gravest(failures) or (0 if found.arrived else SyncError.exit_code)


def _place(place: Place) -> dict[str, Any]:
    receipt, failure = place.receipt, place.failure
    return {
        **vars(place.destination),
        "arrived": place.arrived,
        "pending": asdict(place.pending),
        "receipt": None
        if receipt is None
        else {
            "url": receipt.url,
            "state": receipt.state,
            "time": receipt.time,
            "level": receipt.level,
            "rows": receipt.rows,
            "artifacts": len(receipt.artifacts),
            "files": receipt.files,
            "not_sent": receipt.not_sent,
        },
        "failure": None
        if failure is None
        else {
            "class": failure.error,
            "message": failure.message,
            "exit_code": failure.exit_code,
            "retryable": failure.retryable,
            "time": failure.time,
        },
    }


def _live(state: LiveState | None) -> dict[str, Any] | None:
    if state is None:
        return None
    process = {name: state.process.get(name) for name in ("pid", "host")}
    return {
        **process,
        "phase": state.phase,
        "rows": state.rows,
        "error": state.error,
        "time": state.time,
    }


def _live_text(live: dict[str, Any]) -> str:
    """Say what the uploader does, or why it does nothing."""
    said = {"gone": "was killed", "waiting": "tries again"}.get(live["phase"], live["phase"])
    reason = f": {live['error']}" if live["error"] else ""
    who = "" if live["phase"] == "not started" else f" (process {live['pid']} on {live['host']})"
    return f"live: the uploader{who} {said}{reason}"


def _print(runs: list[dict[str, Any]]) -> None:
    """Print a line for each destination of each run, and one for each reason."""
    good = [run for run in runs if run["error"] is None]
    rows, reasons = [], []
    for run in good:
        for place in run["destinations"] or [None]:
            rows.append((run["run_id"], run["name"] or "-", run["state"], *_cells(run, place)))
            if place and place["failure"]:
                reasons.append(f"{run['run_id']}: {place['failure']['message']}")
        if run["live"] is not None and (run["live"]["phase"] != "ended" or run["live"]["error"]):
            reasons.append(f"{run['run_id']}: {_live_text(run['live'])}")
    if rows:
        print_table(("RUN", "NAME", "STATE", "SYNCED", "PENDING", "VERIFIED", "WHERE"), rows)
    for reason in reasons:
        say(reason)


def _cells(run: dict[str, Any], place: dict[str, Any] | None) -> tuple[str, str, str, str]:
    if place is None:
        return "no", _pending_text(Pending(**run["pending"])), "-", "-"
    receipt, failure = place["receipt"], place["failure"]
    if place["arrived"]:
        said = "yes"
    elif failure:
        said = f"failed ({failure['class']})"
    else:
        said = "in part"
    pending = _pending_text(Pending(**place["pending"]))
    if receipt and receipt["not_sent"]:
        pending = "; ".join([pending, f"not sent: {', '.join(receipt['not_sent'])}"])
    where = receipt["url"] if receipt else f"{place['server']} ({place['project']})"
    return said, pending, human_time(receipt["time"]) if receipt else "-", where


def _pending_text(pending: Pending) -> str:
    counts = [(pending.rows, "row"), (pending.artifacts, "artifact"), (pending.files, "file")]
    texts = [counted(number, noun) for number, noun in counts if number]
    return ", ".join([*texts, human_size(pending.bytes)]) if texts else "-"
