"""What is left of a row group, some of whose column chunks are damaged.

The footer's statistics replace what can be known from them: the steps of a row group without gaps,
and, within their bounds, when its rows were logged. Without its other values a row is a row still.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wandbkeras.store.part_schema import HISTOGRAM_COUNTS, HISTOGRAM_MOMENTS, INDEX

# Columns without which a row says nothing; those of the index are another matter.
_ESSENTIAL: Mapping[str, Collection[str]] = {
    "history": (),
    "histograms": ("key", "values", "bins"),
    "events": ("_timestamp", "type", "body"),
    "console": ("_timestamp", "_writer", "line", "stream", "text"),
}
_STATS = (*HISTOGRAM_COUNTS, *HISTOGRAM_MOMENTS)
_TIMES = ("_timestamp", "_runtime")


@dataclass(frozen=True)
class RowGroup:
    """A row group of a part, by its footer. ``damaged`` are the names of its damaged columns."""

    stream: str
    attempt: int
    file: pq.ParquetFile
    number: int
    damaged: frozenset[str]

    @property
    def rows(self) -> int:
        return int(self._metadata.num_rows)

    @property
    def steps(self) -> tuple[int, int] | None:
        """The first and the last step, as far as the footer says."""
        return self._bounds("_step")

    @property
    def is_lost(self) -> bool:
        """Whether none of its rows can be read."""
        return any(map(self._is_needed, self.damaged))

    def fate(self, name: str) -> str:
        """Say what damage to the column ``name`` costs."""
        if self._is_needed(name):
            what = {"events": "events", "console": "lines"}.get(self.stream, "rows")
            return f"{self.rows} {what} are lost"
        if name in ("_step", "_attempt"):
            return "nothing is lost: the footer says what it held"
        if name in _TIMES:
            return f"{self.rows} times are estimated"
        return f"the values of {self.rows} rows are lost"

    def read(self, names: Sequence[str] | None = None) -> pa.Table:
        """Return what is left, its columns ``names``."""
        fields = {field.name: number for number, field in enumerate(self.file.schema_arrow)}
        lost = self.damaged
        if self.stream == "histograms" and not lost.isdisjoint(_STATS):
            lost = lost.union(_STATS)  # all or none: what is null there means something
        sound = [n for n in fields if n not in lost and (names is None or n in names or n in INDEX)]
        indices = [fields[name] for name in sound]
        table = self.file.reader.read_row_group(self.number, column_indices=indices)
        if self.is_lost:
            return table.slice(0, 0)
        for name in [name for name in INDEX if name in self.damaged]:
            array = pa.array(self._restored(name, table), INDEX[name])
            field = self.file.schema_arrow.field(name)
            table = table.add_column(min(fields[name], table.num_columns), field, array)
        for name in _STATS if lost != self.damaged else ():
            field = self.file.schema_arrow.field(name)
            table = table.append_column(field, pa.nulls(self.rows, field.type))
        return table

    @property
    def _metadata(self) -> pq.RowGroupMetaData:
        return self.file.metadata.row_group(self.number)

    def _is_needed(self, name: str) -> bool:
        if name in _ESSENTIAL[self.stream]:
            return True
        if name == "_step":
            return self._steps() is None
        return name in _TIMES and self._bounds(name) is None

    def _bounds(self, name: str) -> tuple[Any, Any] | None:
        """Return the least and the greatest value of a column, if the footer has them."""
        names = self.file.schema_arrow.names
        if name not in names:
            return None
        statistics = self._metadata.column(names.index(name)).statistics
        if statistics is None or not statistics.has_min_max:
            return None
        return statistics.min, statistics.max

    def _steps(self) -> Sequence[int] | None:
        """Return the steps if the footer leaves no choice."""
        bounds = self._bounds("_step")
        if bounds is None:
            return None
        first, last = bounds
        if first == last:
            return [first] * self.rows
        # The history has a step once; what has none between its bounds is without gaps.
        is_whole = self.stream == "history" and last - first + 1 == self.rows
        return range(first, last + 1) if is_whole else None

    def _restored(self, name: str, table: pa.Table) -> Any:
        if name == "_attempt":
            return [self.attempt] * self.rows
        if name == "_step":
            return self._steps()
        low, high = self._bounds(name) or (0.0, 0.0)
        other = _TIMES[1 - _TIMES.index(name)]
        if other in self.damaged or other not in table.column_names:
            return np.linspace(low, high, self.rows)
        # The two clocks run alike, but for the time between attempts.
        times = table[other].to_numpy()
        return np.clip(times - times.min() + low, low, high)
