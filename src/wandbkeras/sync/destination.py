"""Where a run goes: server, entity, project and run id."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

DEFAULT_PROJECT = "uncategorized"  # wandb's


@dataclass(frozen=True)
class Destination:
    """A run's place on a server; ``entity`` None is the default entity of the key."""

    server: str
    entity: str | None
    project: str
    run_id: str

    @property
    def stem(self) -> str:
        """What the names of files about it begin with: readable, and distinct for each.

        >>> Destination("https://api.wandb.ai", None, "digits", "k3j9x2ab").stem
        'api.wandb.ai-default-digits-k3j9x2ab-2de35df3'
        """
        parts = (self.server, self.entity or "", self.project, self.run_id)
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]
        host = urlsplit(self.server).netloc or self.server
        text = "-".join((host, self.entity or "default", self.project, self.run_id))
        return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', text)[:150]}-{digest}"

    def __str__(self) -> str:
        return f"{self.server}/{self.entity or '(default entity)'}/{self.project}/{self.run_id}"
