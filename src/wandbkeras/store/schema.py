"""The values of a run as the store knows them: plain, immutable, the same on disk and in memory.

A history row is a mapping from metric to value, where a value is ``None``, a bool, an int that
fits 64 bits, a float, a string, a list of such, or a histogram: a dict with ``_type``
``"histogram"``, ``values`` (counts) and ``bins`` (edges, one more than counts).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from wandbkeras.errors import DamagedError, NewerFormatError, UsageError
from wandbkeras.store import document
from wandbkeras.store.layout import check_run_id

RUN_FORMAT = "wandbkeras-run"
ARTIFACT_FORMAT = "wandbkeras-artifact"
FORMAT_VERSION = 1
HISTOGRAM = "histogram"


@dataclass(frozen=True)
class RunInfo:
    """Who a run is: the content of ``run.json``. ``created`` is in seconds since the epoch, UTC."""

    id: str
    created: float
    project: str | None = None
    entity: str | None = None
    name: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None
    host: str | None = None

    def to_document(self) -> dict[str, Any]:
        return {"format": RUN_FORMAT, "version": FORMAT_VERSION, **asdict(self)}


def read_info(path: Path) -> RunInfo:
    """Return what ``run.json`` at ``path`` says."""
    members = document.read(path)
    check_version(path, members, RUN_FORMAT)
    try:
        info = msgspec.convert(members, RunInfo)
        check_run_id(info.id)
    except (msgspec.ValidationError, UsageError) as error:
        raise DamagedError(f"{path}: {error}") from error
    return info


def check_version(path: Path, members: Mapping[str, Any], expected: str) -> None:
    """Raise unless the document at ``path`` is of the expected format and a version read here."""
    if members.get("format") != expected:
        raise DamagedError(f"{path}: format {members.get('format')!r}, expected {expected!r}")
    version = members.get("version")
    if version != FORMAT_VERSION:
        raise NewerFormatError(
            f"{path}: format version {version!r}, this wandbkeras reads {FORMAT_VERSION}: "
            "use a newer wandbkeras"
        )


class Row(msgspec.Struct, frozen=True):
    """One step of the history. ``timestamp`` and ``runtime`` are in seconds.

    A row is not ``complete`` while more may be logged at its step.
    """

    step: int
    timestamp: float
    runtime: float
    values: Mapping[str, Any]
    attempt: int = 0
    complete: bool = True


@dataclass(frozen=True)
class ArtifactFile:
    """A file of an artifact: its bytes are the blob ``sha256``; ``md5`` is in hexadecimal."""

    sha256: str
    md5: str
    size: int


@dataclass(frozen=True)
class ArtifactVersion:
    """One version of an artifact as a run logged it; ``files`` maps paths to their content."""

    name: str
    type: str
    aliases: tuple[str, ...] = ()
    description: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, ArtifactFile] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        return {"format": ARTIFACT_FORMAT, "version": FORMAT_VERSION, **asdict(self)}


def read_artifact(path: Path) -> ArtifactVersion:
    """Return the artifact manifest at ``path``."""
    members = document.read(path)
    check_version(path, members, ARTIFACT_FORMAT)
    try:
        version = msgspec.convert(members, ArtifactVersion)
    except msgspec.ValidationError as error:
        raise DamagedError(f"{path}: not an artifact manifest ({error})") from error
    for name in version.files:
        _check_artifact_path(path, name)
    return version


def _check_artifact_path(path: Path, name: str) -> None:
    if not name or name.startswith("/") or "\\" in name or ".." in name.split("/"):
        raise DamagedError(f"{path}: the path {name!r} would leave the artifact")
