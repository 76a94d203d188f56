"""Artifacts as a user builds them: a name, a type and files, copied into the run when logged."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wandbkeras.errors import UsageError
from wandbkeras.recording.logged_tables import LoggedTable, logged_table
from wandbkeras.recording.references import references_of
from wandbkeras.recording.values import checked_names, checked_text, plain_config
from wandbkeras.store.checks import TABLE
from wandbkeras.store.schema import TABLE_SUFFIX, Reference, is_relative_path

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_MAX_METADATA_KEYS = 100


def artifact_name(text: str) -> str:
    """Return ``text`` with what W&B refuses in an artifact's name replaced by ``-``.

    >>> artifact_name("model-first try")
    'model-first-try'
    """
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text)[:128]


def checked_aliases(aliases: Iterable[str] | None) -> tuple[str, ...]:
    """Return the aliases of a version, ``latest`` first; UsageError if W&B refuses one.

    >>> checked_aliases(["best", "latest"])
    ('latest', 'best')
    """
    names = dict.fromkeys(("latest", *checked_names(aliases, "aliases")))
    for name in names:
        if not name or "/" in name or ":" in name:
            raise UsageError(f"alias {name!r}: W&B takes names without '/' and ':'")
    return tuple(names)


class Artifact:
    """A set of files that becomes a version of the artifact ``name``, as ``wandb.Artifact``.

    >>> Artifact("digits", type="dataset").files
    {}
    """

    def __init__(
        self,
        name: str,
        type: str,
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(
                f"artifact name {name!r}: W&B takes 1 to 128 letters, digits, '_', '-' and '.'"
            )
        if not isinstance(type, str) or not _NAME.fullmatch(type):
            raise UsageError(
                f"artifact type {type!r}: W&B takes 1 to 128 letters, digits, '_', '-' and '.'"
            )
        if description is not None and not isinstance(description, str):
            raise UsageError(
                f"artifact {name!r}: received description {description!r}; expected a string"
            )
        self.name = name
        self.type = type
        self.description = None if description is None else checked_text(description, "description")
        self.metadata = plain_config(metadata or {})
        if len(self.metadata) > _MAX_METADATA_KEYS:
            raise UsageError(
                f"artifact {name!r}: received {len(self.metadata)} metadata keys; W&B takes "
                f"{_MAX_METADATA_KEYS}"
            )
        self.files: dict[str, Path] = {}
        self.references: dict[str, Reference] = {}
        self.tables: dict[str, LoggedTable] = {}
        self.given: set[str] = set()

    def add_file(
        self, local_path: str | os.PathLike[str], name: str | None = None, *, adopt: bool = False
    ) -> None:
        """Add a file, under ``name`` (default: its own); it is read when the artifact is logged.

        With ``adopt`` it is given away: moved into the run instead of copied, and nobody may write
        on it any more.
        """
        path = Path(local_path)
        if not path.is_file():
            raise UsageError(f"artifact {self.name!r}: {path} is not a file")
        name = self._add(name or path.name, path)
        if adopt:
            self.given.add(name)

    def add_reference(self, uri: str, name: str | None = None, checksum: bool = True) -> None:
        """Add what lies elsewhere by its URI: it is not copied and not uploaded.

        Args:
            uri: ``file:///…`` (of a directory, each file below it), ``s3://…``, ``gs://…``,
                ``https://…`` or any other.
            name: the path in the artifact; default: as wandb's, from the URI.
            checksum: hash what ``file:`` names. What lies on other machines is never asked for.
        """
        if not isinstance(uri, str):
            raise UsageError(f"artifact {self.name!r}: received {uri!r:.80}; expected a URI")
        for path, reference in references_of(uri, name, checksum).items():
            path = self._checked_path(path)
            if path in self.files or self.references.setdefault(path, reference) != reference:
                raise UsageError(f"artifact {self.name!r}: two files under the name {path!r}")

    def add_dir(self, local_path: str | os.PathLike[str], name: str | None = None) -> None:
        """Add every file below a directory, its path relative to it (below ``name``)."""
        root = Path(local_path)
        if not root.is_dir():
            raise UsageError(f"artifact {self.name!r}: {root} is not a directory")
        for path in sorted(root.rglob("*")):
            if path.is_file():
                relative = path.relative_to(root).as_posix()
                self._add(f"{name}/{relative}" if name else relative, path)

    def add(self, obj: Any, name: str) -> None:
        """Add a table, written when the artifact is logged.

        Args:
            obj: a :class:`wandbkeras.Table`, what ``Run.open_table`` gave, a dataframe of pandas,
                or a table of wandb.
            name: its path in the artifact, which in W&B ends in ``.table.json``.
        """
        table = logged_table(obj)
        if table is None or table.kind != TABLE:
            raise UsageError(f"artifact {self.name!r}: received {obj!r:.80}; expected a table")
        name = self._checked_path(name).removesuffix(TABLE_SUFFIX)
        if name in self.tables:
            raise UsageError(f"artifact {self.name!r}: two tables under the name {name!r}")
        self.tables[name] = table

    def _add(self, name: str, path: Path) -> str:
        name = self._checked_path(name)
        if name in self.references or self.files.setdefault(name, path) != path:
            raise UsageError(f"artifact {self.name!r}: two files under the name {name!r}")
        return name

    def _checked_path(self, name: str) -> str:
        name = checked_text(name, f"artifact {self.name!r}: a file's name")
        if not is_relative_path(name):
            raise UsageError(
                f"artifact {self.name!r}: {name!r} is not a relative path with forward slashes"
            )
        return name


def artifact_of(
    given: Artifact | str | os.PathLike[str], name: str | None, kind: str | None, run_id: str
) -> Artifact:
    """Return the artifact that ``log_artifact`` was given, made of a path if it is one."""
    if isinstance(given, Artifact):
        return given
    if not isinstance(given, (str, os.PathLike)):
        raise UsageError(
            f"log_artifact: received {given!r:.80}; expected a wandbkeras.Artifact or a path"
        )
    path = Path(given)
    default = artifact_name(f"run-{run_id}-{path.name}")
    artifact = Artifact(name or default, kind or "unspecified")
    if isinstance(given, str) and "://" in given and not path.exists():
        artifact.add_reference(given)
    elif path.is_dir():
        artifact.add_dir(path)
    else:
        artifact.add_file(path)
    return artifact
