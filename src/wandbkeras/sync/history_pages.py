"""How a long history is asked for, and taken apart, page by page.

W&B's client pages by steps of one width, not by rows: asked for a range with a gap, it makes a
request for each width of it. And each of its scans costs two requests before the first page.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec

PAGE_ROWS = 1_000
# A scan has so many pages, and so many scans are read at once: the server, W&B's client and we have
# something to do at the same time, and the rows that wait are bounded.
SCAN_PAGES = 5
_AT_ONCE = 2
# Pages in one scan are alike: up to so many times as wide as the first.
_ALIKE = 2
_MAX_PAGE_STEPS = 2**31 - 1
_decode = msgspec.json.decode
_Row = TypeVar("_Row")


@dataclass(frozen=True)
class Span:
    """What one scan reads: the steps from ``first`` to ``last``, ``page`` steps at a time."""

    first: int
    last: int
    page: int


def scans(steps: Sequence[int]) -> Iterator[Span]:
    """Yield the scans that read the rows at ``steps``, ascending: few, and few pages each.

    Rows at even distances, as most are, need one for each :data:`SCAN_PAGES` pages.

    >>> list(scans(range(0, 30_000, 10)))
    [Span(first=0, last=29990, page=9991)]
    >>> [(span.first, span.last) for span in scans(range(12_000))]
    [(0, 4999), (5000, 9999), (10000, 11999)]
    >>> list(scans([0, 1, 2**40])), list(scans([]))
    ([Span(first=0, last=1, page=2), Span(first=1099511627776, last=1099511627776, page=1)], [])
    """
    scan: Span | None = None
    for first, last in _pages(steps):
        page = last + 1 - first
        # A narrow page may hold all its rows in what a wider one asks for at once.
        is_alike = scan and scan.page <= _ALIKE * page and last - scan.last <= _ALIKE * scan.page
        if scan and is_alike and last - scan.first < SCAN_PAGES * scan.page:
            scan = replace(scan, last=last)
        else:
            if scan:
                yield scan
            scan = Span(first, last, page)
    if scan:
        yield scan


def _pages(steps: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last step of each page of rows."""
    start = 0
    for index, step in enumerate(steps):
        if index - start == PAGE_ROWS or step - steps[start] >= _MAX_PAGE_STEPS:
            yield steps[start], steps[index - 1]
            start = index
    if steps:
        yield steps[start], steps[-1]


def read_ahead(scanned: Iterable[Iterable[_Row]]) -> Iterator[_Row]:
    """Yield the rows of scans one after the other; other threads read the next scans meanwhile."""
    coming: deque[Future[list[_Row]]] = deque()
    with ThreadPoolExecutor(_AT_ONCE, "wandbkeras-read-ahead") as threads:
        for rows in scanned:
            coming.append(threads.submit(list, rows))
            if len(coming) > _AT_ONCE:
                yield from coming.popleft().result()
        while coming:
            yield from coming.popleft().result()


def decode_all(texts: Sequence[str]) -> Sequence[Any]:
    """Return what each JSON text means, with W&B's NaN and infinities; ValueError if it is none.

    >>> decode_all(["1", "2.5"]), decode_all(["NaN"]), decode_all([])
    ([1, 2.5], [nan], [])
    """
    try:
        values = _decode(f"[{','.join(texts)}]")
    except ValueError:
        return [json.loads(text) for text in texts]
    return values  # type: ignore[no-any-return]
