"""The rows of a run as W&B must hold them, read as rarely as can be and digested on the way."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

from wandbkeras.store import limits
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import Row
from wandbkeras.sync.choice import Choice
from wandbkeras.sync.digests import HistoryDigest
from wandbkeras.sync.media import Rendered
from wandbkeras.sync.ongoing import Proven

# Values that W&B holds as they are.
_PLAIN = frozenset({float, int, bool, str, type(None)})


class HeldRows:
    """What of the rows of ``run`` is meant by ``choice``, their values ``rendered``.

    Those that are ``proven`` are not read again. ``beyond`` is what W&B does not take: metric to
    the steps at which it stands, each with the reason; None is the summary.
    """

    def __init__(
        self,
        run: StoredRun,
        choice: Choice,
        proven: Proven,
        rendered: Callable[[Any, str, int], Rendered],
        *,
        is_running: bool,
    ) -> None:
        self._run = run
        self._choice = choice
        self._proven = proven
        self._rendered = rendered
        self._is_running = is_running
        self._digest: HistoryDigest | None = None
        self.beyond: dict[str, dict[int | None, str]] = {
            key: {step: reason for step, reason in found.items() if step is not None}
            for key, found in proven.beyond.items()
        }

    @cached_property
    def steps(self) -> Sequence[int]:
        """The steps of the rows; of a running run of those that can't change any more."""
        steps = self._run.steps
        settled = self._run.settled_steps if self._is_running else None
        return steps if settled is None else steps[: bisect_left(steps, settled)]

    def read(self, start: int = 0) -> Iterator[Row]:
        """Yield the rows from number ``start``."""
        # Who reads all of them the first time digests them; all that are not proven.
        if start != self._proven.rows or self._digest is not None:
            return self._read(start)
        return self._digested(self._read(start))

    @property
    def digest(self) -> HistoryDigest:
        """The digest of all rows; those that are not proven are read for it if none has been."""
        if self._digest is None:
            deque(self.read(self._proven.rows), maxlen=0)
        assert self._digest is not None
        return self._digest

    def taken(self, values: Mapping[str, Any], step: int | None) -> Mapping[str, Any]:
        """Return what W&B takes of a row, or of the summary (``step`` None), noting the rest."""
        if not (found := limits.beyond(values)):
            return values
        for key, reason in found.items():
            self.beyond.setdefault(key, {})[step] = reason
        return {key: value for key, value in values.items() if key not in found}

    def _read(self, start: int) -> Iterator[Row]:
        for row in islice(self._run.rows(start), max(0, len(self.steps) - start)):
            values = self._choice.metrics(row.values)
            if not limits.are_few_numbers(values):
                if not _PLAIN.issuperset(map(type, values.values())):
                    values = {k: self._rendered(v, k, row.step).value for k, v in values.items()}
                values = self.taken(values, row.step)
            if values is row.values:
                yield row
            else:
                yield Row(row.step, row.timestamp, row.runtime, values, row.attempt)

    def _digested(self, rows: Iterator[Row]) -> Iterator[Row]:
        digest = self._proven.digest.copy()
        for row in rows:
            digest.add(row)
            yield row
        self._digest = digest
