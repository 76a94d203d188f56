"""What a handler is given: the state, and how this server is reached from outside."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from urllib.parse import quote

from tests.server.state import State


@dataclass(frozen=True)
class Context:
    """One request's view of the server; `now` is the same throughout it."""

    state: State
    base_url: str
    nonfinite: str
    exports: bool
    lag: float
    repeats: bool
    now: float = field(default_factory=time.time)

    @property
    def horizon(self) -> float:
        """Lines received after this are not shown yet."""
        return self.now - self.lag

    def upload_url(self, target: str, row: int, *, md5: str | None = None, part: int = 0) -> str:
        """A fresh URL that takes the bytes of one row by PUT, and no others than `md5`'s."""
        token = os.urandom(16).hex()
        self.state.insert("uploads", token=token, target=target, row=row, part=part, md5=md5)
        return f"{self.base_url}/storage/upload/{token}"

    def object_url(self, sha256: str, name: str) -> str:
        """Like a signed URL: no key is asked for."""
        return f"{self.base_url}/storage/object/{sha256}/{quote(name.rsplit('/', 1)[-1])}"
