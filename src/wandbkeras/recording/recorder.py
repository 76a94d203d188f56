"""The Run: what a training script calls to record.

The step semantics are wandb's: a row is one step; ``log`` without a step writes the current step
and goes to the next; ``commit=False`` or an explicit step leaves the row open for more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any

from wandbkeras.recording.alerts import alert_body
from wandbkeras.recording.attempt import Begun
from wandbkeras.recording.definitions import metric_definition
from wandbkeras.recording.exits import exit_code_of, traceback_of
from wandbkeras.recording.keeping import KeepingRun
from wandbkeras.recording.mappings import Config, Summary
from wandbkeras.recording.rows import Rows, RowWithTables, take_timestamp
from wandbkeras.store.writer import RunWriter


class Run(KeepingRun):
    """A run being recorded; made by :func:`wandbkeras.init`."""

    def __init__(self, begun: Begun) -> None:
        super().__init__(begun)
        self._rows = Rows()
        self._before_finish: list[Callable[[], None]] = []
        self._after_finish: list[Callable[[], None]] = []
        self._traceback: str | None = None
        self._preempting = False
        self._memory: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        self.config = Config(lambda: self._state(0), self._change("config"))
        self.summary = Summary(lambda: self._state(1), self._change("summary"))

    def log(
        self, data: Mapping[str, Any], step: int | None = None, commit: bool | None = None
    ) -> None:
        """Record metrics of one step; when this returns they survive the process being killed.

        Args:
            data: names to numbers, strings, bools, None, arrays, histograms, images, lists of
                images, tables, or nested dicts of those, whose names are joined by dots.
            step: the step to write; one below the current step is not recorded, and said so.
            commit: whether the row is complete. Default: True without ``step``, else False.

        Raises:
            UnsupportedValueError: a value can't be recorded; nothing of the row is.
            DiskFullError: the disk takes no more, with ``init(on_full="raise")``; nothing of the
                row is recorded, and it can be logged again. Else such a row is counted.
        """
        values = self._rows.plain(data)
        timestamp = take_timestamp(values) if "_timestamp" in values else time.time()
        writer = self._writer
        if writer is None:
            self._advance(step, commit)
            self._memory[1].update(values)
            return
        if isinstance(values, RowWithTables):
            self._log_tables(writer, values, timestamp, step, commit)
            return
        # Entering a lock costs three times as much as acquiring it, a tenth of the whole call.
        writer.lock.acquire()
        try:
            if self.is_finished:
                self._check_open()
            complete = commit if commit is not None else step is None
            if step is not None and not self._move_to(step, len(values)):
                return
            runtime = time.monotonic() - self._monotonic_start
            writer.history(self._step, timestamp, runtime, values, complete)
            if complete:
                self._step += 1
        finally:
            writer.lock.release()

    def _log_tables(
        self,
        writer: RunWriter,
        values: RowWithTables,
        timestamp: float,
        step: int | None,
        commit: bool | None,
    ) -> None:
        """Record a row with tables: their files are durable before the row names them."""
        self._check_open()
        with self._tables.written(values.tables) as written, writer.lock:
            self._check_open()
            complete = commit if commit is not None else step is None
            if step is not None and not self._move_to(step, len(values) + len(values.tables)):
                return
            row = {**values, **written.place(self._step)}
            runtime = time.monotonic() - self._monotonic_start
            if writer.history(self._step, timestamp, runtime, row, complete):
                written.keep()
            if complete:
                self._step += 1

    def define_metric(
        self,
        name: str,
        step_metric: str | None = None,
        step_sync: bool | None = None,
        hidden: bool | None = None,
        summary: str | None = None,
        goal: str | None = None,
        overwrite: bool | None = None,
    ) -> None:
        """Say how a metric is summarised and against what it is drawn, as in wandb.

        Args:
            name: the metric, or a prefix followed by ``*``.
            step_metric: the metric of the x-axis.
            step_sync: add the latest ``step_metric`` to rows that lack it; default: yes if one is
                given.
            hidden: keep it out of W&B's automatic plots.
            summary: any of min, max, mean, first, last, none, separated by commas.
            goal: ``minimize`` or ``maximize``.
            overwrite: replace earlier definitions of the name instead of adding to them.
        """
        definition = metric_definition(name, step_metric, step_sync, hidden, summary, goal)
        if self._writer is not None:
            self._check_open()
            self._writer.event("metric", {**definition.to_body(), "overwrite": bool(overwrite)})

    def alert(
        self,
        title: str,
        text: str,
        level: str | None = None,
        wait_duration: float | timedelta | None = None,
    ) -> None:
        """Record that somebody is to be told something; W&B does so when the run is synced.

        Args:
            title: what it is about, in W&B less than 64 characters.
            text: what is said.
            level: ``INFO`` (default), ``WARN``, ``ERROR``, or wandb's ``AlertLevel``.
            wait_duration: seconds or a timedelta (default: a minute) for which no other alert of
                this title is to be sent; each is recorded.
        """
        body = alert_body(title, text, level, wait_duration)
        if self._writer is not None:
            self._check_open()
            self._writer.event("alert", body)

    @property
    def preempting(self) -> bool:
        """Whether the process was told, by a signal or :meth:`mark_preempting`, that it will end.

        A training that can do something about it looks here: save a checkpoint, then exit.
        """
        return self._preempting

    def mark_preempting(self, signal: str | None = None) -> None:
        """Record that this process is about to be ended, and is to go on later, as in wandb.

        The run is ``preempted`` unless it ends well all the same. All that was logged survives a
        power cut when this returns. ``signal`` is the name of the one that said so, if one did.
        """
        self._preempting = True
        if self._writer is not None and not self.is_finished:
            self._writer.event("preempting", {} if signal is None else {"signal": signal})
            self._writer.sync()

    def ended_by(self, traceback: str | None) -> None:
        """Keep the traceback of the exception that ends the run, for :meth:`finish` to record."""
        self._traceback = traceback

    def finish(self, exit_code: int | None = None) -> None:
        """End the run with ``exit_code`` (0 if none is given); calling it again does nothing."""
        if self.is_finished:
            return
        try:
            while self._before_finish:
                self._before_finish.pop()()
        finally:
            self.is_finished = True
            try:
                self._finish(exit_code)
            finally:
                while self._after_finish:
                    self._after_finish.pop()()

    def _finish(self, exit_code: int | None) -> None:
        if self._writer is None or self._files is None:
            return
        try:
            self._tables.finish()
            self._files.finish()
        finally:
            runtime = time.monotonic() - self._monotonic_start
            # What a process can end with has 32 bits; what is more is no success either.
            code = max(-(2**31), min(int(exit_code or 0), 2**31 - 1))
            self._writer.close(code, runtime, self._traceback)

    def before_finish(self, action: Callable[[], None]) -> None:
        """Call ``action`` once when the run is about to finish: to wait for what still records."""
        if action not in self._before_finish:
            self._before_finish.append(action)

    def after_finish(self, action: Callable[[], None]) -> None:
        """Call ``action`` once when the run has finished: to wait for what still uploads it."""
        self._after_finish.append(action)

    def withdraw(self) -> None:
        """Undo ``init``: nothing was logged, and nothing is left of this attempt."""
        self.is_finished = True
        if self._writer is not None:
            self._writer.withdraw()

    def detach(self) -> None:
        """Record nothing more in this process, a forked one: the run is its parent's."""
        self._writer = self._files = None
        self._tables.detach()
        self._before_finish = []
        self._after_finish = []

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.ended_by(traceback_of(error))
        self.finish(exit_code_of(error))

    def __repr__(self) -> str:
        return f"<wandbkeras run {self.id} in {self.dir or 'memory (disabled)'}>"

    def _state(self, which: int) -> dict[str, Any]:
        if self._writer is None:
            return self._memory[which]
        state = self._writer.state
        return state.summary if which else state.config

    def _change(self, kind: str) -> Any:
        def change(update: dict[str, Any], remove: list[str]) -> None:
            if self._writer is None:
                target = self._state(kind == "summary")
                target.update(update)
                for key in remove:
                    target.pop(key, None)
            else:
                self._check_open()
                self._writer.event(kind, {"update": update, "remove": remove})

        return change
