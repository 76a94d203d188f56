"""What the syncs of a run that grows share, one after the other, in one process.

Each is a whole sync, with a plan, a lock, an upload and a receipt of its own. What was read back
once by this process, and can't have changed since, is not read again: so each costs what is new.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import TableFile
from wandbkeras.sync.digests import HistoryDigest
from wandbkeras.sync.images import RenderedImages
from wandbkeras.sync.remote import RemoteRun
from wandbkeras.sync.upload import Client

# Of system metrics and the console the client sends all, however much there is already: with a
# minute between, and longer the more there is, that stays a little.
STREAMS_S = 60.0
SECONDS_PER_SAMPLE = 0.1
SECONDS_PER_LINE = 0.01


@dataclass(frozen=True)
class Proven:
    """The first ``rows`` rows of a run, which were read back from its destination.

    ``rows_compared`` of them value by value, as the level said; ``remote`` is what was read back
    beside them. It holds for as long as the run has the same ``lineage``: rows only come after its
    rows then. ``beyond`` is what of them W&B does not take, as :class:`Content` keeps it, and
    ``images`` is what it holds of those that they name. System metrics and console are due at
    ``streams_due``, on the monotonic clock.
    """

    lineage: object = None
    remote: RemoteRun | None = None
    rows: int = 0
    rows_compared: int = 0
    digest: HistoryDigest = field(default_factory=HistoryDigest)
    beyond: Mapping[str, Mapping[int | None, str]] = field(default_factory=dict)
    images: Mapping[TableFile, RenderedImages] = field(default_factory=dict)
    streams_due: float = 0.0

    @property
    def are_streams_due(self) -> bool:
        return time.monotonic() >= self.streams_due


NOTHING = Proven()


class Ongoing:
    """W&B's clients, kept running, and what is proven of each run, by where it goes.

    ``who`` tells other syncs who holds the lock of a run.
    """

    def __init__(self, who: str) -> None:
        self.who = who
        self._clients: dict[str, Client] = {}
        self._proven: dict[object, Proven] = {}

    def proven(self, place: object, run: StoredRun) -> Proven:
        """Return what is proven at a place of a run as it is now."""
        found = self._proven.get(place, NOTHING)
        return found if found.lineage == run.lineage else NOTHING

    def remember(self, place: object, proven: Proven) -> None:
        self._proven[place] = proven

    def forget(self) -> None:
        """Let the next sync read all: the last one found something else than it should have."""
        self._proven.clear()

    def ask_again(self) -> None:
        """Let the next sync ask what the server holds: more may have arrived than was seen."""
        self._proven = {k: replace(proven, remote=None) for k, proven in self._proven.items()}

    def client(self, base_url: str) -> Client:
        """Return the one that sends to a server."""
        return self._clients.setdefault(base_url, Client(base_url))

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


def streams_due(samples: int, lines: int) -> float:
    """Return when so much and what comes meanwhile is to be sent again, on the monotonic clock."""
    pause_s = SECONDS_PER_SAMPLE * samples + SECONDS_PER_LINE * lines
    return time.monotonic() + max(STREAMS_S, pause_s)
