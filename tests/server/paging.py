"""Relay connections over lists that are already in hand; a cursor is a position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.server.refusal import RefusalError


@dataclass(frozen=True)
class PageInfo:
    end_cursor: str | None
    has_next_page: bool


@dataclass(frozen=True)
class Edge:
    node: Any
    cursor: str

    @property
    def version(self) -> str | None:
        """What an edge to an artifact also tells."""
        index = self.node.version_index
        return None if index is None else f"v{index}"


@dataclass(frozen=True)
class Connection:
    edges: list[Edge]
    page_info: PageInfo
    total_count: int


def connect(nodes: Sequence[Any], after: str | None = None, first: int | None = None) -> Connection:
    """The page of `nodes` after a cursor."""
    try:
        start = int(after) if after else 0
    except ValueError:
        raise RefusalError(400, f"invalid cursor {after!r}") from None
    stop = len(nodes) if first is None else min(start + first, len(nodes))
    edges = [Edge(nodes[i], str(i + 1)) for i in range(start, stop)]
    end = edges[-1].cursor if edges else None
    return Connection(edges, PageInfo(end, stop < len(nodes)), len(nodes))
