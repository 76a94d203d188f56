"""Comparing a history with the server's: row by row, or by a sample of a long one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

from wandbkeras.sync.compare import row_differences
from wandbkeras.sync.content import Content
from wandbkeras.sync.destination import Destination
from wandbkeras.sync.history_pages import PAGE_ROWS
from wandbkeras.sync.readback import Server
from wandbkeras.sync.receipt import Level

# A history up to here is read in full by a sample too: that takes half a minute at most.
FULL_ROWS = 250_000
SAMPLE_PAGES = 50


def spans(count: int, level: Level, seed: str, start: int = 0) -> list[range]:
    """Return which of ``count`` rows are compared, in order, of those from number ``start``.

    A sample is the first and the last page of a long history and others at random, which are the
    same for the same ``seed``.

    >>> spans(3, "full", ""), spans(3, "sample", ""), spans(3, "counts", "")
    ([range(0, 3)], [range(0, 3)], [])
    >>> len(spans(10**7, "sample", "k3j9x2ab")), sum(map(len, spans(10**7, "sample", "k3j9x2ab")))
    (50, 50000)
    """
    if level == "counts" or count <= start:
        return []
    if start:
        found = spans(count - start, level, seed)
        return [range(span.start + start, span.stop + start) for span in found]
    if level == "full" or count <= FULL_ROWS:
        return [range(count)]
    last = -(-count // PAGE_ROWS) - 1
    between = random.Random(seed).sample(range(1, last), SAMPLE_PAGES - 2)
    pages = sorted({0, last, *between})
    # The last page is whole too: it ends where the history ends.
    starts = [min(page * PAGE_ROWS, count - PAGE_ROWS) for page in pages]
    return [range(start, start + PAGE_ROWS) for start in starts]


def history_differences(
    content: Content, server: Server, entity: str, destination: Destination, compared: list[range]
) -> Iterator[str]:
    """Yield what differs in the rows ``compared``, which the server should hold."""
    at = compared[0].start if compared else 0
    rows = content.rows(at)
    for span in compared:
        steps = content.steps[span.start : span.stop]
        found = server.rows(entity, destination.project, destination.run_id, steps)
        next(islice(rows, span.start - at, span.start - at), None)
        at = span.stop
        for _, text in row_differences(islice(rows, len(span)), found, span.start):
            yield text
