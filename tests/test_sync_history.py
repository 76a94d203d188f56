"""Which rows are compared, and that a difference is seen in each of them."""

from __future__ import annotations

import pytest

from wandbkeras.sync.history import FULL_ROWS, SAMPLE_PAGES, spans
from wandbkeras.sync.history_pages import PAGE_ROWS
from wandbkeras.sync.receipt import Level


@pytest.mark.parametrize("count", [0, 1, FULL_ROWS])
def test_a_sample_of_a_short_history_is_all_of_it(count: int) -> None:
    """Up to the limit every row is compared."""
    assert [row for span in spans(count, "sample", "a") for row in span] == [*range(count)]


@pytest.mark.parametrize("count", [FULL_ROWS + 1, FULL_ROWS + PAGE_ROWS, 5_000_123])
def test_a_sample_of_a_long_history(count: int) -> None:
    """As many whole pages, in order, within it, its beginning and its end among them."""
    found = spans(count, "sample", "k3j9x2ab")
    assert [len(span) for span in found] == [PAGE_ROWS] * SAMPLE_PAGES
    assert (found[0].start, found[-1].stop) == (0, count)
    assert [span.start for span in found] == sorted(span.start for span in found)
    assert found == spans(count, "sample", "k3j9x2ab") != spans(count, "sample", "other")


@pytest.mark.parametrize(("level", "rows"), [("full", 10**6), ("counts", 0)])
def test_the_other_levels(level: Level, rows: int) -> None:
    """All rows, or none."""
    assert sum(map(len, spans(10**6, level, "a"))) == rows
