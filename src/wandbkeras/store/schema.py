"""The values of a run as the store knows them: plain, immutable, the same on disk and in memory.

A history row is a mapping from metric to value, where a value is ``None``, a bool, an int that
fits 64 bits, a float, a string, a list of such, or a histogram: a dict with ``_type``
``"histogram"``, ``values`` (counts) and ``bins`` (edges, one more than counts).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from wandbkeras.errors import DamagedError, NewerFormatError, UsageError
from wandbkeras.store import document
from wandbkeras.store.checks import TABLE_TYPES, Count, Date, Md5, Sha256, TableName, convert
from wandbkeras.store.layout import check_run_id
from wandbkeras.store.names import (
    check_aliases,
    check_artifact_name,
    check_entity,
    check_project,
    check_tag,
    check_title,
)

RUN_FORMAT = "wandbkeras-run"
ARTIFACT_FORMAT = "wandbkeras-artifact"
FORMAT_VERSION = 1
HISTOGRAM = "histogram"
# Of the name that W&B gives to a table in an artifact.
TABLE_SUFFIX = ".table.json"
GRAPH = "graph"
ALERT_LEVELS = ("INFO", "WARN", "ERROR")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# W&B's client writes its own files of these names, over whatever lies there.
CLIENT_FILES = frozenset(
    {
        "conda-environment.yaml",
        "config.yaml",
        "diff.patch",
        "output.log",
        "requirements.txt",
        "wandb-events.jsonl",
        "wandb-history.jsonl",
        "wandb-job.json",
        "wandb-metadata.json",
        "wandb-summary.json",
    }
)


@dataclass(frozen=True)
class RunInfo:
    """Who a run is: the content of ``run.json``. ``created`` is in seconds since the epoch, UTC."""

    id: str
    created: Date
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
        return checked_info(convert(members, RunInfo))
    except (ValueError, UsageError) as error:
        raise DamagedError(f"{path}: {error}") from error


def checked_info(info: RunInfo) -> RunInfo:
    """Return ``info``; UsageError if the store or W&B refuses one of its names."""
    check_run_id(info.id)
    if info.project is not None:
        check_project(info.project)
    if info.entity is not None:
        check_entity(info.entity)
    for argument in ("name", "group", "job_type"):
        check_title(argument, getattr(info, argument) or "")
    for tag in info.tags:
        check_tag(tag)
    return info


def check_version(path: Path, members: Mapping[str, Any], expected: str) -> None:
    """Raise unless the document at ``path`` is of the expected format and a version read here."""
    if members.get("format") != expected:
        raise DamagedError(f"{path}: format {members.get('format')!r:.80}, expected {expected!r}")
    version = members.get("version")
    if type(version) is not int or version < 1:
        raise DamagedError(f"{path}: format version {version!r:.80}, expected a number")
    if version != FORMAT_VERSION:
        raise NewerFormatError(
            f"{path}: format version {version!r}, this wandbkeras reads {FORMAT_VERSION}: "
            "use a newer wandbkeras"
        )


@dataclass(frozen=True)
class Alert:
    """What the script wanted somebody to be told; ``wait_duration`` is in seconds.

    For so long no other alert of this title is to be sent.
    """

    timestamp: float
    title: str
    text: str
    level: str
    wait_duration: float


class Row(msgspec.Struct, frozen=True, gc=False):
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

    sha256: Sha256
    md5: Md5
    size: Count


@dataclass(frozen=True)
class TableFile:
    """A table of the run: the path of its Parquet file within the run, its bytes and its rows."""

    path: TableName
    sha256: Sha256
    size: Count
    rows: Count

    def to_value(self, kind: str) -> dict[str, Any]:
        """Return the value of the metric under which it was logged."""
        return {"_type": kind, **asdict(self)}


@dataclass(frozen=True)
class Reference:
    """What an artifact only points to: ``ref`` is its URI, ``digest`` W&B's name of its content.

    The digest is the MD5 in base64 if the content was hashed, else it stands for the URI alone.
    """

    ref: str
    digest: str
    size: Count | None = None


@dataclass(frozen=True)
class ArtifactVersion:
    """One version of an artifact as a run logged it.

    ``files`` maps paths to their content, ``references`` other paths to what lies elsewhere,
    ``tables`` names to tables. ``used``: the run took it in, too. ``step`` is where the run was.
    """

    name: str
    type: str
    aliases: tuple[str, ...] = ()
    description: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, ArtifactFile] = field(default_factory=dict)
    references: Mapping[str, Reference] = field(default_factory=dict)
    tables: Mapping[str, TableFile] = field(default_factory=dict)
    used: bool = False
    step: int | None = None

    @property
    def blobs(self) -> set[str]:
        """The SHA-256 of the contents that it needs."""
        return {file.sha256 for file in self.files.values()}

    def to_document(self) -> dict[str, Any]:
        return {"format": ARTIFACT_FORMAT, "version": FORMAT_VERSION, **asdict(self)}


def read_artifact(path: Path) -> ArtifactVersion:
    """Return the artifact manifest at ``path``."""
    members = document.read(path, path.parent.parent)
    check_version(path, members, ARTIFACT_FORMAT)
    try:
        version = convert(members, ArtifactVersion)
        check_artifact_name(version.name, "name")
        check_artifact_name(version.type, "type")
        check_aliases(version.aliases)
    except (ValueError, UsageError) as error:
        raise DamagedError(f"{path}: not an artifact manifest ({error})") from error
    for name in (*version.files, *version.references, *version.tables):
        if not is_relative_path(name):
            raise DamagedError(f"{path}: the path {name!r} would leave the artifact")
    if both := sorted(version.files.keys() & version.references.keys()):
        raise DamagedError(f"{path}: the path {both[0]!r} is a file and a reference")
    return version


def is_relative_path(name: str) -> bool:
    """Whether ``name`` is a path with forward slashes that stays below where it begins.

    >>> is_relative_path("a/b"), is_relative_path("a/../../b"), is_relative_path("/a")
    (True, False, False)
    """
    parts = name.split("/")
    return "\\" not in name and not {"", ".", ".."} & set(parts) and not _CONTROL.search(name)


def is_run_file_name(name: str) -> bool:
    """Whether a file of the run may have this name: the files of W&B's client keep theirs.

    >>> is_run_file_name("eval/roc.png"), is_run_file_name("a//b"), is_run_file_name("config.yaml")
    (True, False, False)
    """
    # A file system may take them for the same in capitals.
    return is_relative_path(name) and name.split("/")[0].casefold() not in CLIENT_FILES


def run_file(root: Path, name: str, members: Mapping[str, Any]) -> ArtifactFile:
    """Return what the run at ``root`` says of its file ``name``; DamagedError if it can't be."""
    try:
        file = convert(members, ArtifactFile)
    except ValueError as error:
        raise DamagedError(f"{root}: not a file: {name!r:.80} ({error})") from error
    if not is_run_file_name(name):
        raise DamagedError(f"{root}: the name {name!r} is none that a file of a run may have")
    return file


def table_of(value: Any) -> TableFile | None:
    """Return the table that a value of a metric names; None if it is another value."""
    kind = value.get("_type") if isinstance(value, dict) else None
    is_table = isinstance(kind, str) and kind in TABLE_TYPES
    return convert(value, TableFile) if is_table else None
