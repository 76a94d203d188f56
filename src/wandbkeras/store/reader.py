"""Reading runs: sealed parts and live journals as one, whatever state the writer is in.

Nothing here changes a byte of the run, so a read-only mount or a copy does.
"""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wandbkeras.errors import NotFoundError
from wandbkeras.store import column_kinds, columns, merge, named_tables, part_schema
from wandbkeras.store.attempts import AttemptView, spans
from wandbkeras.store.environment import Environment, environment_of
from wandbkeras.store.opened import OpenedRun
from wandbkeras.store.schema import Alert, Row
from wandbkeras.store.state import Event, RunState
from wandbkeras.store.tables import StoredTable


class StoredRun(OpenedRun):
    """One run of a store, as it was when it was opened.

    Opening reads ``run.json``, the manifests and what is not sealed yet; the sealed history is read
    when it is asked for. What is damaged is left out, and ``damage`` says so; with ``strict`` it is
    a DamagedError.
    """

    def history(
        self, columns: Sequence[str] | None = None, *, keys: Sequence[str] = ()
    ) -> pa.Table:
        """Return the merged history, one row a step, sorted by ``_step``.

        ``columns`` limits the metrics; the index columns ``_step``, ``_timestamp``, ``_runtime``
        and ``_attempt`` are always there. ``keys`` limits them too, and leaves the rows that have
        a value of each of the keys, as W&B's ``scan_history(keys=…)`` does. Histograms are in
        :meth:`histograms`. What is not asked for is not read.
        """
        names = [*(columns or ()), *keys] if keys or columns is not None else None
        merged = merge.merged(self._tables(lambda view: self._history_parts(view, names)))
        if self._lost_tables:
            merged = named_tables.without(merged, self._lost_tables)
        return merge.with_values(merged, keys)

    def histograms(self) -> pa.Table:
        """Return the histograms, a row each: index columns, key, values (counts), bins (edges)."""
        tables = self._tables(self._histogram_parts)
        empty = part_schema.HISTOGRAM_SCHEMA.empty_table()
        return pa.concat_tables([empty, *tables]).sort_by("_step")

    def rows(self, start: int = 0) -> Iterator[Row]:
        """Yield the merged history row by row, from number ``start``, histograms included.

        Of a history that its parts hold in order, a row group at a time is in memory.
        """
        found = None if self._lost_tables else self._settled(self._tables_in_order)
        tables, histograms = found or iter([self.history()]), self.histograms()
        if start and len(histograms):
            first = self.steps[start : start + 1] or [0]
            histograms = histograms.filter(pc.greater_equal(histograms["_step"], first[0]))
        return columns.read_tables(merge.without_first(tables, start), histograms)

    @cached_property
    def row_count(self) -> int:
        """The number of rows of the merged history."""
        if len(self.attempts) == 1 and not self.damage:  # the manifest knows
            (view,) = self.attempts
            sealed = [part.rows for part in view.manifest.parts if part.stream == "history"]
            return sum(sealed) + len(view.tail.rows)
        return int(self.history(columns=["_step"]).num_rows)

    @property
    def steps(self) -> array[int]:
        """The steps of the merged history, ascending."""
        column = self._settled(self._steps_of_parts)
        if not merge.is_rising(column):
            column = self.history(columns=[])["_step"]
        found = array("q")
        for chunk in column.chunks:
            found.frombytes(chunk.to_numpy().tobytes())
        return found

    def tables(self) -> list[StoredTable]:
        """Return the tables and images that the rows of the merged history name, in their order.

        Those in artifacts are the ``tables`` of their versions: see :meth:`stored_table`.
        """
        schemas = self._settled(lambda: [s for view in self.attempts for s in self._schemas(view)])
        # Whoever names a table is an object, and has a column of JSON.
        names = {f.name for schema in schemas for f in schema if part_schema.is_json(f)}
        if not names:
            return []
        history = self.history(columns=list(names))
        return list(map(self.named_table, named_tables.in_history(history)))

    def table(self, key: str, step: int | None = None) -> pa.Table:
        """Return what was logged as a table or as images under ``key``, the latest by default."""
        found = [t for t in self.tables() if t.key == key and step in (None, t.step)]
        if not found:
            where = "" if step is None else f" at step {step}"
            raise NotFoundError(f"{self.path}: no table was logged as {key!r:.80}{where}")
        return found[-1].read()

    def named_table(self, named: named_tables.NamedTable) -> StoredTable:
        """Return the table that a row of this run names."""
        return StoredTable(self.layout, named.file, key=named.key, step=named.step, kind=named.kind)

    def events(self) -> list[Event]:
        """Return the events of all attempts in the order of time."""
        return [event for _, event in self._events_by_time]

    @property
    def traceback(self) -> str | None:
        """The traceback of the exception that ended the last attempt, if one did."""
        if not self.exit_code:
            return None
        ends = self._settled(lambda: [e for view in self._last_attempt for e in self._events(view)])
        texts = [e.body["traceback"] for e in ends if e.type == "finish" and "traceback" in e.body]
        return texts[0] if texts else None

    @property
    def alerts(self) -> list[Alert]:
        """The alerts of all attempts in the order of time."""
        found = [event for event in self.events() if event.type == "alert"]
        names = ("title", "text", "level", "wait_duration")
        return [Alert(event.timestamp, *(event.body[name] for name in names)) for event in found]

    @property
    def environment(self) -> Environment | None:
        """Where the run was made: its first attempt; None if that was not recorded."""
        found = (event for event in self.events() if event.type == "environment")
        first = next(found, None)
        return None if first is None else environment_of(self.path, first.body)

    def samples(self, *, settled: bool = False) -> list[Event]:
        """Return the samples of system metrics: by attempt, of each its first writer's first.

        With ``settled`` those that are not last for good are left out: of the latest attempt there
        are only those of its first writer. To what is left, samples only come at the end.
        """
        latest = max(view.number for view in self.attempts) if self.attempts else 0
        found = [
            ((view.number, view.manifest.writer > 0), event)
            for view, event in self._events_by_time
            if event.type == "system"
        ]
        found.sort(key=lambda item: item[0])
        return [event for place, event in found if not settled or place != (latest, True)]

    def system_metrics(self) -> pa.Table:
        """Return what the machine did, a row a sample: ``_timestamp``, then W&B's ``system.…``.

        Those of the writer ``N`` of an attempt, but for the first one, end in ``/l:N``.
        """
        samples = [event for event in self.events() if event.type == "system"]
        names = dict.fromkeys(name for sample in samples for name in sample.body)
        found: dict[str, list[Any]] = {"_timestamp": [sample.timestamp for sample in samples]}
        found |= {f"system.{n}": [sample.body.get(n) for sample in samples] for n in names}
        return pa.table({name: pa.array(values, pa.float64()) for name, values in found.items()})

    def console(self) -> pa.Table:
        """Return what the processes of the run printed, a row a line.

        The columns: ``_timestamp`` (when the line was last changed), ``_attempt``, ``_writer``,
        ``line`` (numbered from 0 by writer; those that are not kept are missing), ``stream``
        (``stdout`` or ``stderr``) and ``text``.
        """
        empty = part_schema.CONSOLE_SCHEMA.empty_table()
        tables = self._settled(lambda: [t for v in self.attempts for t in self._console_parts(v)])
        return pa.concat_tables([empty, *tables])

    def state_before(self, step: int) -> RunState:
        """Return what the run added up to before ``step`` was logged, in the order of time."""
        rows = list(self.rows())
        cut = min((row.timestamp for row in rows if row.step >= step), default=math.inf)
        kept: list[tuple[float, Row | Event]] = [(r.timestamp, r) for r in rows if r.step < step]
        kept += [(event.timestamp, event) for event in self.events() if event.timestamp < cut]
        state = RunState()
        state.apply_all(item for _, item in sorted(kept, key=lambda pair: pair[0]))
        return state

    def _tables(self, parts: Callable[[AttemptView], Iterator[pa.Table]]) -> list[pa.Table]:
        """Return the tables that count."""
        return self._settled(
            lambda: [
                table
                for view, upto in spans(self.attempts)
                for table in merge.before(parts(view), upto)
            ]
        )

    def _history_parts(self, view: AttemptView, names: Sequence[str] | None) -> Iterator[pa.Table]:
        wanted = None if names is None else [*part_schema.INDEX, part_schema.NULLS, *names]
        for part in view.manifest.parts:
            if part.stream == "history":
                yield self._source.part(part, wanted).replace_schema_metadata(None)
        table = columns.history_table(view.tail.rows)
        yield (
            table
            if wanted is None
            else table.select([name for name in table.column_names if name in wanted])
        )

    def _steps_of_parts(self) -> pa.ChunkedArray:
        """Return the steps of all rows that count, writer after writer."""
        chunks = [
            chunk
            for view, upto in spans(self.attempts)
            for _, tables in self._row_groups(view, [*part_schema.INDEX])
            for table in merge.before(tables, upto)
            for chunk in table["_step"].chunks
        ]
        return pa.chunked_array(chunks, pa.int64())

    def _tables_in_order(self) -> Iterator[pa.Table] | None:
        """Return the history by row groups; None if they have to be merged, or made of one type."""
        if not merge.is_rising(self._steps_of_parts()):
            return None
        found = [
            (schema, merge.before(tables, upto))
            for view, upto in spans(self.attempts)
            for schema, tables in self._row_groups(view)
        ]
        if not column_kinds.are_alike(schema for schema, _ in found):
            return None
        return itertools.chain.from_iterable(tables for _, tables in found)

    def _row_groups(
        self, view: AttemptView, names: Sequence[str] | None = None
    ) -> Iterator[tuple[pa.Schema, Iterator[pa.Table]]]:
        for part in view.manifest.parts:
            if part.stream == "history":
                yield self._source.row_groups(part, names)
        tail = columns.history_table(view.tail.rows)
        yield tail.schema, iter([tail])

    def _schemas(self, view: AttemptView) -> Iterator[pa.Schema]:
        return (schema for schema, _ in self._row_groups(view))

    def _histogram_parts(self, view: AttemptView) -> Iterator[pa.Table]:
        for part in view.manifest.parts:
            if part.stream == "histograms":
                yield self._source.part(part).replace_schema_metadata(None)
        yield columns.histogram_table(view.tail.rows)

    def _console_parts(self, view: AttemptView) -> Iterator[pa.Table]:
        for part in view.manifest.parts:
            if part.stream == "console":
                yield self._source.part(part).replace_schema_metadata(None)
        if not view.manifest.has_console:
            yield self._source.console(view.number, view.manifest.writer)

    @cached_property
    def _events_by_time(self) -> list[tuple[AttemptView, Event]]:
        found = self._settled(
            lambda: [(view, event) for view in self.attempts for event in self._events(view)]
        )
        return sorted(found, key=lambda item: item[1].timestamp)

    def _events(self, view: AttemptView) -> list[Event]:
        sealed = (
            columns.read_events(self._source.part(part))
            for part in view.manifest.parts
            if part.stream == "events"
        )
        return [*itertools.chain(*sealed), *view.tail.events]
