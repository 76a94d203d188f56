"""``wandbkeras sync --watch``: a line an event, a table that changes, or a stream of JSON."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wandbkeras.errors import UsageError
from wandbkeras.store.directory import Store
from wandbkeras.store.selection import duration_s
from wandbkeras.store.source import is_run
from wandbkeras.store.wording import counted
from wandbkeras_cli.output import error_document, human_time, one_line, say
from wandbkeras_cli.paths import run_directories, selected

if TYPE_CHECKING:
    from rich.table import Table

    from wandbkeras.sync.options import Options
    from wandbkeras.sync.watch import Event, Pace, Watched, Watcher

# Of the runs that have arrived a terminal shows the last ones, below those that have not.
_SHOWN = 20


def _seconds(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """Return the seconds of a number without a unit, or with one, as in 90, 30s and 12h."""
    if text is None:
        return None
    return duration_s(f"{text}s" if text[-1:].isdigit() else text)


_OPTIONS = (
    click.option(
        "--watch",
        "is_watching",
        is_flag=True,
        help="Go on: sync new runs and new rows as they come.",
    ),
    click.option(
        "--interval",
        callback=_seconds,
        metavar="DURATION",
        help="With --watch: how often to look.  [default: 30s]",
    ),
    click.option(
        "--exit-when-done",
        is_flag=True,
        help="With --watch: end when every run has ended and has arrived.",
    ),
    click.option(
        "--idle-timeout",
        callback=_seconds,
        metavar="DURATION",
        help="With --watch: end when for so long no run was running and nothing came.",
    ),
)


def watch_options(command: Any) -> Any:
    """Add the options to the command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def pace_of(said: Mapping[str, Any]) -> Pace | None:
    """Return how to watch; None if that was not asked for, UsageError for a part of it alone."""
    asked = [name for name in ("interval", "exit_when_done", "idle_timeout") if said[name]]
    if not said["is_watching"]:
        if asked:
            raise UsageError(
                f"received --{asked[0].replace('_', '-')} without --watch; expected both"
            )
        return None
    # wandb takes a second to import, which no other command should wait for.
    from wandbkeras.sync.watch import DEFAULT_INTERVAL_S, Pace

    interval_s = DEFAULT_INTERVAL_S if said["interval"] is None else said["interval"]
    if interval_s <= 0:
        raise UsageError(f"received --interval {interval_s:g}; expected more than 0 seconds")
    return Pace(interval_s, said["exit_when_done"], said["idle_timeout"])


def watch(
    paths: Sequence[Path],
    include: Sequence[str],
    exclude: Sequence[str],
    options: Options,
    pace: Pace,
    *,
    quiet: bool,
    as_json: bool,
) -> int:
    """Watch the runs at ``paths`` until there is nothing to wait for; return the exit code.

    SIGINT and SIGTERM end it cleanly: what is under way is given up, and told by the exit code.
    """
    from wandbkeras.sync.watch import Watcher

    def find() -> list[Path]:
        return selected(_found(paths), include, exclude)

    find()  # a path that leads nowhere is said at once
    stores = {options.state_directory} if options.state_directory else {*map(_store, paths)}
    stopping = threading.Event()
    watcher = Watcher(find, sorted(stores), options, pace, stopping=stopping)
    show, shown = _shower(watcher, quiet=quiet, as_json=as_json)
    with _ended_by_signals(stopping), shown:
        events = watcher.events()
        try:
            for event in events:
                show(event)
        except KeyboardInterrupt:
            events.close()  # ends what is under way
    return watcher.exit_code


def _found(paths: Sequence[Path]) -> list[Path]:
    """Return the runs there are now: a store may have none yet."""
    found = []
    for path in paths:
        if path.is_dir() and not is_run(path):
            found += Store(path).paths()
        else:
            found += run_directories([path])
    return list(dict.fromkeys(found))


def _store(path: Path) -> Path:
    return path.parent if is_run(path) or not path.is_dir() else path


@contextmanager
def _ended_by_signals(stopping: threading.Event) -> Iterator[None]:
    """Let Ctrl-C, and SIGTERM, which schedulers send, end the block with a KeyboardInterrupt.

    ``stopping`` is set, too: an exception that comes in a finalizer is lost.
    """

    def interrupt(number: int, frame: Any) -> None:
        stopping.set()
        raise KeyboardInterrupt

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _shower(
    watcher: Watcher, *, quiet: bool, as_json: bool
) -> tuple[Callable[[Event], None], AbstractContextManager[Any]]:
    """Return what shows an event, and what has to be open meanwhile."""
    if as_json:
        return lambda event: click.echo(json.dumps(_document(event))), nullcontext()
    if quiet or not sys.stdout.isatty():
        return lambda event: _print(event, quiet=quiet), nullcontext()
    return lambda event: None, _live_table(watcher)


def _print(event: Event, *, quiet: bool) -> None:
    when, who = human_time(event.time, seconds=True), event.path.name if event.path else ""
    result = event.result
    if event.error is not None:
        again = f"; next try in {event.retry_s:.0f} s" if event.retry_s else ""
        say(f"{when} {who + ': ' if who else ''}{event.error}{again}", err=True)
    elif result is not None and result.receipt is not None and not quiet:
        sent = f"{counted(result.rows_sent, 'row')}, "
        sent += counted(result.artifacts_sent, "artifact version")
        say(
            f"{when} {who}: arrived: {sent}; {counted(result.receipt.rows, 'row')} verified "
            f"({result.receipt.state}) at {result.receipt.url}"
        )
    elif not quiet:
        say(f"{when} {who}: found")


def _document(event: Event) -> dict[str, Any]:
    receipt = event.result.receipt if event.result else None
    return {
        "event": event.kind,
        "time": event.time,
        "path": str(event.path) if event.path else None,
        "run_id": event.result.run_id if event.result else None,
        "url": receipt.url if receipt else None,
        "state": receipt.state if receipt else None,
        "rows_sent": event.result.rows_sent if event.result else 0,
        "rows_verified": receipt.rows if receipt else 0,
        "artifacts_sent": event.result.artifacts_sent if event.result else 0,
        "retry_s": event.retry_s,
        "error": error_document(event.error),
    }


@contextmanager
def _live_table(watcher: Watcher) -> Iterator[None]:
    """Show a table of the runs, drawn anew every second."""
    from rich.live import Live

    with Live(get_renderable=lambda: _table(watcher.runs), refresh_per_second=1) as live:
        yield
        live.refresh()


def _table(runs: Sequence[Watched]) -> Table:
    """Return the runs that are under way or in trouble, then those that arrived last."""
    from rich.table import Table
    from rich.text import Text

    def order(run: Watched) -> tuple[bool, float]:
        return not run.may_change, -(run.receipt.time if run.receipt else 0.0)

    waiting = sum(run.may_change for run in runs)
    table = Table(title=f"{len(runs)} runs, {waiting} under way", title_justify="left", box=None)
    for column in ("RUN", "STATE", "ROWS", "VERIFIED", "TROUBLE"):
        table.add_column(column, justify="right" if column == "ROWS" else "left")
    for run in sorted(runs, key=order)[:_SHOWN]:
        receipt = run.receipt
        trouble = str(run.result.error) if run.result and run.result.error else ""
        cells = (
            run.path.name,
            run.state or "-",
            f"{receipt.rows:,}" if receipt else "-",
            human_time(receipt.time, seconds=True) if receipt else "-",
            trouble,
        )
        # Names in a run may come from a stranger: no text is markup.
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    if len(runs) > _SHOWN:
        table.add_row(Text(f"and {len(runs) - _SHOWN} more"))
    return table
