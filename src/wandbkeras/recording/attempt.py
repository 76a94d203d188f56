"""The attempt of a run that is being recorded: who it is, its step, and what our own parts record.

What a training script calls is :class:`wandbkeras.recording.recorder.Run`, which builds on this.
"""

from __future__ import annotations

import operator
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wandbkeras.errors import UsageError, WandbkerasError
from wandbkeras.store.checks import readable
from wandbkeras.store.schema import RunInfo
from wandbkeras.store.writer import RunWriter

if TYPE_CHECKING:
    from wandbkeras.store.reader import StoredRun


@dataclass(frozen=True)
class Begun:
    """How a run begins, or goes on, in this process: at ``first_step``, after ``runtime`` seconds.

    ``writer`` is None for a disabled run, which takes every call and records nothing. ``earlier``
    is what the attempts before this one recorded.
    """

    info: RunInfo
    writer: RunWriter | None
    first_step: int = 0
    runtime: float = 0.0
    earlier: StoredRun | None = None


class RunAttempt:
    """What is recorded of a run in this process."""

    def __init__(self, begun: Begun) -> None:
        self._info = begun.info
        self._earlier = begun.earlier
        self._writer = begun.writer
        self._step = begun.first_step
        # An attribute, not a property: every batch of a training asks.
        self.is_finished = False
        self._warned_steps = False
        self._lost_step: int | None = None
        # Durations come from the monotonic clock: the wall clock may be set while training.
        self._monotonic_start = time.monotonic() - begun.runtime

    @property
    def id(self) -> str:
        return self._info.id

    @property
    def name(self) -> str:
        """The display name; the id where none was given."""
        return self._info.name or self._info.id

    @property
    def project(self) -> str | None:
        return self._info.project

    @property
    def entity(self) -> str | None:
        return self._info.entity

    @property
    def group(self) -> str | None:
        return self._info.group

    @property
    def job_type(self) -> str | None:
        return self._info.job_type

    @property
    def tags(self) -> tuple[str, ...]:
        return self._info.tags

    @property
    def notes(self) -> str | None:
        return self._info.notes

    @property
    def step(self) -> int:
        """The step that the next ``log`` writes."""
        return self._step

    @property
    def dir(self) -> str | None:
        """The run directory, None for a disabled run."""
        return str(self._writer.layout.root) if self._writer else None

    @property
    def disabled(self) -> bool:
        return self._writer is None

    @property
    def writer(self) -> RunWriter | None:
        """What writes the run, None for a disabled run."""
        return self._writer

    @property
    def began_attempt(self) -> bool:
        """Whether no other process began the attempt that this one writes."""
        return self._writer is not None and self._writer.number == 0

    @property
    def resumed(self) -> bool:
        """Whether this goes on with what earlier attempts recorded."""
        return self._earlier is not None

    @property
    def has_begun(self) -> bool:
        """Whether this attempt has logged anything of a row."""
        return self._writer is not None and self._writer.has_rows

    def leave_history(self) -> None:
        """Record that another process of this attempt logs the history; said once is enough.

        So no row is kept back until this process has gone past its step. A row that it logs all the
        same is recorded; where later rows have arrived at a server already, that is a conflict.
        """
        if self._writer is not None and not self.is_finished and not self._writer.state.beside:
            self._writer.event("beside", {})

    def roll_back(self, step: int) -> None:
        """Go on from ``step``: later rows of earlier attempts no longer count.

        For a process that starts again from a checkpoint; before it logs its first row. The
        summary becomes what it was before that step was logged.
        """
        if self._writer is None or self._earlier is None or self.has_begun:
            raise UsageError("roll_back: expected a resumed run that has not logged a row yet")
        before = self._earlier.state_before(_checked_step(step))
        # What this attempt has said already holds: its config, its definitions.
        before.config = self._writer.state.config
        for definition in self._writer.state.metrics.all():
            before.metrics.define(definition)
        self._writer.event("rollback", {"from_step": step, "resume": before.to_resume_body()})
        self._step = step

    def record_progress(self, body: Mapping[str, Any]) -> None:
        """Record where a training is, for the attempt that goes on from here."""
        if self._writer is not None:
            self._writer.event("progress", body)

    def earlier_progress(self) -> list[Mapping[str, Any]]:
        """Return what earlier attempts recorded of their progress, oldest first."""
        events = [] if self._earlier is None else self._earlier.events()
        return [event.body for event in events if event.type == "progress"]

    def record_failure(self, where: str, reason: str) -> None:
        """Count in the run that a part of the recorder failed."""
        if self._writer is not None:
            self._writer.event("failure", {"where": readable(where), "reason": readable(reason)})

    def record_system_metrics(self, metrics: Mapping[str, float]) -> None:
        """Record what the machine does at this moment, under the names of W&B's client.

        Its way to tell several processes of a run apart is a label in the name.
        """
        if self._writer is not None:
            number = self._writer.number
            label = f"/l:{number}" if number else ""
            self._writer.event("system", {f"{name}{label}": v for name, v in metrics.items()})

    def counting(self, what: str) -> AbstractContextManager[None]:
        """Count ``what`` as not recorded if the disk, within the context, takes no more.

        With ``on_full="raise"`` that raises a DiskFullError instead.
        """
        return nullcontext() if self._writer is None else self._writer.counting(what)

    def check_free(self, size: int) -> None:
        """Return if a file of ``size`` bytes has room in the run's directory; else OSError."""
        if self._writer is not None:
            self._writer.files.check_free(size)

    def sync(self) -> None:
        """Return when everything logged so far survives a power cut (else within a second)."""
        if self._writer is not None:
            self._writer.sync()

    def confirm(self) -> None:
        """Return when all that the run begins with survives a power cut; OSError if it doesn't."""
        if self._writer is not None:
            self._writer.confirm()

    def _move_to(self, step: int, lost: int) -> bool:
        """Make ``step`` the current one; False, counting what is lost, if it lies behind."""
        step = _checked_step(step)
        # A worker beside others speaks for itself alone, unless it says so by `roll_back`.
        if step < self._step and self.began_attempt and self.resumed and not self.has_begun:
            self.roll_back(step)
        if step >= self._step:
            self._step = step
            return True
        if lost and self._writer is not None and step != self._lost_step:
            self._lost_step = step  # the pieces of one row count once
            self._writer.event("dropped", {"rows": 1, "events": 0, "reason": "the step goes back"})
        if not self._warned_steps:
            self._warned_steps = True
            print(  # noqa: T201
                f"wandbkeras: log: received step {step}, the run is at step {self._step}: steps "
                "must not go back, such rows are not recorded (each is counted; this is said once)",
                file=sys.stderr,
            )
        return False

    def _advance(self, step: int | None, commit: bool | None) -> None:
        """Move the step of a disabled run as a recorded one's would."""
        if step is not None:
            self._step = max(self._step, _checked_step(step))
        if commit if commit is not None else step is None:
            self._step += 1

    def _check_open(self) -> None:
        if self.is_finished:
            raise WandbkerasError(f"run {self.id} is finished: start a new one with init()")


def _checked_step(step: Any) -> int:
    try:
        number = operator.index(step)
    except TypeError:
        raise UsageError(f"log: received step {step!r}; expected an integer") from None
    # Half of what a file can hold: there are always steps to come.
    if not 0 <= number < 2**62:
        raise UsageError(f"log: received step {number}; expected 0 to 2**62 - 1")
    return number
