"""What surrounds a run is looked at by threads of its own, from ``init`` to ``finish``."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path

from wandbkeras.context.background import Background
from wandbkeras.context.console import Console
from wandbkeras.context.program import Program
from wandbkeras.context.sampling import Sampling
from wandbkeras.context.switches import LEAST_CONSOLE_BYTES, ConsoleMode, Switches
from wandbkeras.recording.recorder import Run
from wandbkeras.store.writer import RunWriter


def record_surroundings(run: Run, switches: Switches) -> None:
    """Begin to record what ``switches`` say; returns at once, and never fails."""

    def report(what: str, reason: str) -> None:
        if not run.is_finished:
            run.record_failure(what, reason)

    # First, so that it ends last: it records what the others say, too.
    if run.writer is not None and switches.console is not None:
        _begin_console(run, run.writer, switches.console, switches.console_max_bytes, report)
    begin = threading.Event()
    if run.dir is not None and switches.environment:
        work = _environment(run, Path(run.dir), save_code=switches.save_code)
        run.before_finish(Background("environment", work, report, begin).wait)
    if run.dir is not None and switches.system_metrics is not None:
        sampling = Sampling(switches.system_metrics, run.record_system_metrics, report, begin)
        run.before_finish(sampling.stop)
    begin.set()  # last: what they look at and import takes the processor from `init`


def _begin_console(
    run: Run,
    writer: RunWriter,
    mode: ConsoleMode,
    max_bytes: int,
    report: Callable[[str, str], None],
) -> None:
    room = writer.files.set_aside(max_bytes, LEAST_CONSOLE_BYTES)
    if not room:
        reason = f"max_bytes leaves less than {LEAST_CONSOLE_BYTES} bytes for a quarter"
        print(f"wandbkeras: the console is not recorded: {reason}", file=sys.stderr)  # noqa: T201
        report("console", reason)
        return
    console = Console(mode, writer.layout.root, writer.attempt, writer.number, room, report)
    run.before_finish(console.stop)


def _environment(run: Run, directory: Path, *, save_code: bool) -> Callable[[], None]:
    program = Program.now()

    def work() -> None:
        # What it takes to find out is imported in the background, too.
        from wandbkeras.context.environment import find_environment

        found = find_environment(program, directory, save_code=save_code)
        run.record_environment(found.environment.to_body(), found.files)
        for failure in found.failures:
            print(f"wandbkeras: environment: {failure}", file=sys.stderr)  # noqa: T201
            run.record_failure("environment", failure)

    return work
