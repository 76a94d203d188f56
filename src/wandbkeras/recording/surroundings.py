"""What surrounds a run is looked at by threads of its own, from ``init`` to ``finish``."""

from __future__ import annotations

from pathlib import Path

from wandbkeras.context.background import Background
from wandbkeras.context.switches import Switches
from wandbkeras.recording.recorder import Run


def record_surroundings(run: Run, switches: Switches) -> None:
    """Begin to record what ``switches`` say; returns at once, and never fails."""
    if run.dir is not None and switches.environment:
        _record_environment(run, Path(run.dir), save_code=switches.save_code)


def _record_environment(run: Run, directory: Path, *, save_code: bool) -> None:
    from wandbkeras.context.program import Program

    program = Program.now()

    def work() -> None:
        # What it takes to find out is imported there, too.
        from wandbkeras.context.environment import find_environment

        found = find_environment(program, directory, save_code=save_code)
        run.record_environment(found.environment.to_body(), found.files)
        for failure in found.failures:
            run.record_failure("environment", failure)

    def report(what: str, reason: str) -> None:
        if not run.is_finished:
            run.record_failure(what, reason)

    run.before_finish(Background("environment", work, report).wait)
