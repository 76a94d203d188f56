"""A thread that looks at the surroundings of a run and never stands in its way."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

from wandbkeras.context.edge import attempted

# Longer, and the end of a training would wait for a file system that does not answer.
PATIENCE_S = 20.0


class Background:
    """Runs ``work`` in a daemon thread; whatever it raises is handed to ``report``.

    ``what`` is what is said not to be recorded then. With ``begin`` the work waits until that is
    set: a thread that is busy from its start keeps whoever starts it waiting for Python's lock.
    """

    def __init__(
        self,
        what: str,
        work: Callable[[], None],
        report: Callable[[str, str], None],
        begin: threading.Event | None = None,
    ) -> None:
        self._what = what
        self._work = work
        self._report = report
        self._begin = begin
        self._thread = threading.Thread(target=self._run, name=f"wandbkeras-{what}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # the job may have no more threads
            self._say(str(error))

    def wait(self) -> None:
        """Return when the work is done; what takes longer than :data:`PATIENCE_S` is given up."""
        if self._thread.is_alive():
            self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            self._say(f"it took more than {PATIENCE_S:.0f} s")

    def _run(self) -> None:
        if self._begin is not None:
            self._begin.wait()
        attempted(self._work, self._say)

    def _say(self, reason: str) -> None:
        verb = "are" if self._what.endswith("s") else "is"
        print(  # noqa: T201
            f"wandbkeras: the {self._what} {verb} not recorded: {reason}", file=sys.stderr
        )
        self._report(self._what, reason)
