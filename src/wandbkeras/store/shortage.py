"""What a disk that takes no more has cost, until the run itself says it.

Rows are counted. A row that is logged in pieces counts once, and not at all if what it lacks is
logged at its step again. Events are few, small and mean much to a run (its config, its summary), so
they are kept, and recorded as soon as the disk takes bytes again; beyond ``KEPT_BYTES`` they are
counted too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

KEPT_BYTES = 1 << 20


def counts_text(rows: int, events: int) -> str:
    """Return the counts of what was not recorded in words.

    >>> counts_text(1, 0), counts_text(30, 2)
    ('1 row', '30 rows and 2 other records')
    """
    texts = []
    if rows:
        texts.append(f"{rows} row{'s' * (rows > 1)}")
    if events:
        texts.append(f"{events} {'other ' if rows else ''}record{'s' * (events > 1)}")
    return " and ".join(texts)


class Shortage:
    """The rows and events that the disk did not take and that the run does not tell of yet."""

    def __init__(self) -> None:
        self.rows = 0
        self.events = 0
        self.kept: deque[bytes] = deque()
        self._kept_bytes = 0
        # A row that lacks these metrics, and may still get them.
        self._row: tuple[int, frozenset[str]] | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be said or recorded."""
        return not (self.rows or self.events or self.kept or self._row)

    def miss_row(self, step: int, metrics: Iterable[str], *, last: bool) -> None:
        """Note that (a piece of) the row of ``step`` was not taken; ``last`` if no more comes."""
        self.begin_row(step)
        lacking = self._row[1] if self._row else frozenset()
        self._row = (step, lacking.union(metrics))
        if last:
            self.end_row()

    def take_row(self, step: int, metrics: Iterable[str]) -> None:
        """Note that ``metrics`` of the row of ``step`` were taken."""
        if self._row is not None and self._row[0] == step:
            lacking = self._row[1].difference(metrics)
            self._row = (step, lacking) if lacking else None

    def begin_row(self, step: int) -> None:
        """Note that the row of ``step`` is logged: one before it gets nothing more."""
        if self._row is not None and self._row[0] != step:
            self.end_row()

    def end_row(self) -> None:
        """Count the row that lacks something, if there is one."""
        if self._row is not None:
            self._row = None
            self.rows += 1

    def keep(self, frame: bytes) -> None:
        """Keep the frame of an event for later, or count it."""
        if self._kept_bytes + len(frame) <= KEPT_BYTES:
            self.kept.append(frame)
            self._kept_bytes += len(frame)
        else:
            self.events += 1

    def take_kept(self) -> None:
        """Note that the first of the frames kept was taken."""
        self._kept_bytes -= len(self.kept.popleft())

    def let_go(self, limit: int) -> None:
        """Count what is kept instead, unless it has at most ``limit`` bytes."""
        if self._kept_bytes > limit:
            self.events += len(self.kept)
            self.kept.clear()
            self._kept_bytes = 0

    def take_counts(self) -> None:
        """Note that the run says the counts."""
        self.rows = self.events = 0

    def __str__(self) -> str:
        return counts_text(self.rows, self.events + len(self.kept))
