"""What the runs of one sync share: the server, its refusal, where runs go, where receipts lie."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wandbkeras.errors import NotVerifiedError, SyncError, WandbkerasError
from wandbkeras.store.reader import StoredRun
from wandbkeras.sync.choice import OVERRIDES, Choice
from wandbkeras.sync.content import Content
from wandbkeras.sync.destination import DEFAULT_PROJECT, Destination
from wandbkeras.sync.failure import read_failures
from wandbkeras.sync.lock import Locks
from wandbkeras.sync.ongoing import NOTHING, Ongoing
from wandbkeras.sync.options import Options
from wandbkeras.sync.reachable import check_reachable
from wandbkeras.sync.readback import Server, configured_base_url
from wandbkeras.sync.receipt import (
    Receipt,
    fingerprint,
    read_receipts,
    receipt_name,
    receipts_by_name,
    receipts_directory,
)
from wandbkeras.sync.substitute import Substitute, read_substitute
from wandbkeras.sync.upload import Client, Upload


class Session:
    """One sync of any number of runs, by several threads."""

    def __init__(
        self,
        options: Options,
        progress: Callable[[str], None],
        ongoing: Ongoing | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        self.options = options
        self.progress = progress
        self.ongoing = ongoing
        self.locks = Locks(ongoing.who if ongoing else "")
        # Set when nobody waits for the threads any more.
        self.stopping = stopping or threading.Event()
        self.base_url = configured_base_url().rstrip("/")
        self._local = threading.local()
        self._lock = threading.Lock()
        self._clients: list[Client] = []
        self._failure: WandbkerasError | None = None

    def close(self) -> None:
        """End what is under way, and give back what is held."""
        self.stopping.set()
        for client in self._clients:
            client.close()
        self.locks.close()

    def server(self) -> Server:
        """Return this thread's way to the server; why there is none is found out once."""
        server: Server | None = getattr(self._local, "server", None)
        if server is None:
            with self._lock:
                if self._failure is not None:
                    raise self._failure
                try:
                    patience_s = max(1, math.ceil(self.options.timeout_s))
                    server = self._local.server = Server(self.base_url, patience_s)
                except WandbkerasError as error:
                    self._failure = error
                    raise
        return server

    def destination(self, run: StoredRun) -> Destination:
        """Where the run goes: under another id if a sync before had to take one."""
        return replace(self.recorded_destination(run), run_id=self.substitute(run).run_id)

    def substitute(self, run: StoredRun) -> Substitute:
        """As what the run goes there."""
        return read_substitute(self.directory(run), self.recorded_destination(run))

    def recorded_destination(self, run: StoredRun) -> Destination:
        return Destination(
            server=self.base_url,
            entity=self.options.entity or run.info.entity,
            project=self.options.project or run.info.project or DEFAULT_PROJECT,
            run_id=run.info.id,
        )

    def content(self, run: StoredRun, destination: Destination, choice: Choice) -> Content:
        """Return what a destination must hold of a run, to be closed when it is no longer asked."""
        entity = destination.entity or self.server().default_entity
        proven = NOTHING
        if self.ongoing is not None:
            proven = self.ongoing.proven((destination, choice.suffix), run)
        place = (entity, destination.project, destination.run_id)
        continues = self.substitute(run).continues_url
        return Content(run, place, choice, proven, continues=continues)

    def client(self) -> Client:
        """Return this thread's client that uploads."""
        if self.ongoing is not None:
            return self.ongoing.client(self.base_url)
        client: Client | None = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = Client(self.base_url)
            self._clients.append(client)
        return client

    def upload(self, folders: Sequence[Path]) -> Upload:
        """Upload what is rendered; nothing is said where there is nothing."""
        if not folders:
            return Upload(complaint=None, timed_out=False)
        return self.client().upload(
            folders, timeout_s=self.options.timeout_s, is_hopeless=self._is_hopeless
        )

    def _is_hopeless(self) -> bool:
        """Whether an upload had better be begun again later, when the server answers."""
        if self.stopping.is_set() or self.ongoing is None:
            return self.stopping.is_set()
        try:
            check_reachable(self.base_url)
        except SyncError:
            return True
        return False

    def directory(self, run: StoredRun) -> Path:
        """Where the run's receipts lie."""
        return receipts_directory(run, self.options.state_directory)

    def choice(self, run: StoredRun) -> Choice:
        """Return what of the run is sent; what replaced its names there before stays so."""
        return self._choice(run, self.destination(run), read_receipts(self.directory(run)))

    def proof(self, run: StoredRun) -> Receipt | None:
        """Return the receipt that makes a sync needless, if there is one."""
        found = receipts_by_name(self.directory(run))
        if not found or self.options.check:
            return None
        destination = self.destination(run)
        choice = self._choice(run, destination, found.values())
        receipt = found.get(receipt_name(destination, choice))
        if receipt is None or receipt.replaced != choice.replaced:
            return None
        return receipt if receipt.fingerprint == fingerprint(run) else None

    def has_failed(self, run: StoredRun) -> bool:
        """Whether the last sync of the run sent what it did not find when it read back."""
        directory, destination = self.directory(run), self.destination(run)
        times = [r.time for r in read_receipts(directory) if r.destination == destination]
        return any(
            failure.destination == destination
            and failure.error == NotVerifiedError.__name__
            and failure.time > max(times, default=0.0)
            for failure in read_failures(directory)
        )

    def _choice(
        self, run: StoredRun, destination: Destination, receipts: Iterable[Receipt]
    ) -> Choice:
        replaced: dict[str, Any] = {}
        for receipt in sorted(receipts, key=lambda receipt: receipt.time):
            if receipt.destination == destination:
                replaced |= {k: v for k, v in receipt.replaced.items() if k in OVERRIDES}
        return self.options.choice.after(replaced).of(run)
