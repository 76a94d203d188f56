"""What a server says that it holds of a run, as plain values."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RemoteArtifact:
    """A version of an artifact that the server has committed for a run."""

    name: str
    type: str
    version: str
    digest: str
    aliases: tuple[str, ...]
    description: str | None
    metadata: Mapping[str, Any]
    files: Mapping[str, str]
    references: Mapping[str, str] = field(default_factory=dict)
    id: str = ""
    used: bool = False

    @property
    def uri_id(self) -> str:
        """The id as references to the version have it."""
        return base64.b64decode(self.id).hex()


@dataclass(frozen=True)
class RemoteFile:
    """A file of a run as the server describes it; ``md5`` is in hexadecimal."""

    size: int
    md5: str | None


@dataclass(frozen=True)
class RemoteRun:
    """A run as the server describes it, without its history; ``id`` is the server's own."""

    url: str
    state: str
    name: str
    group: str | None
    job_type: str | None
    tags: tuple[str, ...]
    notes: str | None
    host: str | None
    started: float | None
    heartbeat: float
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    line_count: int
    artifacts: tuple[RemoteArtifact, ...]
    files: Mapping[str, RemoteFile] = field(default_factory=dict)
    mask_labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    id: str = ""
    samples: tuple[Mapping[str, Any], ...] = ()
    # Level and text of console lines by their numbers; None: the server can't be asked for them.
    console: Mapping[int, tuple[str | None, str]] | None = None
