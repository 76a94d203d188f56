"""What a run keeps beside its history: tables, versions of artifacts, models and saved files.

The contents are durable before a record names them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from wandbkeras.errors import UsageError
from wandbkeras.recording.artifact import Artifact, artifact_of, checked_aliases
from wandbkeras.recording.attempt import Begun, RunAttempt
from wandbkeras.recording.files import RunFiles
from wandbkeras.recording.open_table import OpenTable
from wandbkeras.recording.saving import checked_policy, matching_files
from wandbkeras.recording.tables import RunTables
from wandbkeras.store.schema import ArtifactVersion


class KeepingRun(RunAttempt):
    """The part of :class:`wandbkeras.Run` that takes files and tables."""

    def __init__(self, begun: Begun) -> None:
        super().__init__(begun)
        writer = begun.writer
        self._tables = RunTables(writer)
        self._files = None if writer is None else RunFiles(writer, self._tables, begun.earlier)

    def open_table(self, key: str, columns: Iterable[str] | Mapping[str, Any]) -> OpenTable:
        """Begin a table that is written batch by batch, however many rows it gets.

        It is recorded by ``log({key: table})``, or as part of an artifact.

        Args:
            key: what it will be logged under, or any name.
            columns: names; or name to kind, where that isn't to be found from the first batch:
                ``int``, ``float``, ``bool``, ``str``, ``object``, an ``ImageColumn``, a
                ``ClassColumn`` or a ``RowColumn``.
        """
        self._check_open()
        return self._tables.open(key, columns)

    def log_artifact(
        self,
        artifact_or_path: Artifact | str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: Iterable[str] | None = None,
    ) -> Artifact:
        """Record a version of an artifact: its files are copied into the run and hashed.

        Args:
            artifact_or_path: an :class:`wandbkeras.Artifact`, a file, a directory, or a URI.
            name: for a path: the artifact's name; default ``run-<id>-<file name>``.
            type: for a path: the artifact's type; default ``unspecified``.
            aliases: names of this version beside ``latest``.
        """
        artifact = artifact_of(artifact_or_path, name, type, self.id)
        names = checked_aliases(aliases)
        if self._files is not None:
            self._check_open()
            self._files.log(artifact, names, self._step)
        return artifact

    def use_artifact(self, artifact: Artifact, aliases: Iterable[str] | None = None) -> Artifact:
        """Record a version of an artifact that the run takes in, as :meth:`log_artifact` does.

        W&B shows it among the run's inputs. What only a server has can't be used offline.
        """
        if not isinstance(artifact, Artifact):
            raise UsageError(
                f"use_artifact: received {artifact!r:.80}; expected a wandbkeras.Artifact: "
                "recording asks no server for one"
            )
        if self._files is not None:
            self._check_open()
            self._files.log(artifact, checked_aliases(aliases), self._step, used=True)
        return artifact

    def log_model(
        self,
        path: str | os.PathLike[str],
        name: str | None = None,
        aliases: Iterable[str] | None = None,
    ) -> None:
        """Record a version of an artifact of type ``model``: see :meth:`log_artifact`."""
        self.log_artifact(path, name, "model", aliases)

    def save(
        self,
        glob_str: str | os.PathLike[str],
        base_path: str | os.PathLike[str] | None = None,
        policy: str = "live",
        glob: bool = True,
    ) -> list[str]:
        """Keep files with the run, outside of any artifact; return the names that they have there.

        Args:
            glob_str: a path or a pattern, expanded now.
            base_path: the names are the paths below it; default: the working directory, for an
                absolute path the directory above its last.
            policy: ``now``: as they are now. ``end``: as they are when the run ends. ``live``: now,
                and at the end if they have changed. The latest of a name is kept.
            glob: False takes ``glob_str`` for a path, not for a pattern.
        """
        policy = checked_policy(policy)
        files = matching_files(glob_str, base_path, expand=glob)
        if self._files is not None:
            self._check_open()
            self._files.save(files, policy)
        return list(files)

    def artifact_versions(self, name: str) -> dict[str, ArtifactVersion]:
        """Return the versions of an artifact that this run has logged and kept, oldest first.

        The keys are what :meth:`drop_versions` takes.
        """
        return {} if self._files is None else self._files.versions(name)

    def drop_versions(self, keys: Iterable[str]) -> None:
        """Say that versions of artifacts are no longer kept, and remove what only they needed."""
        if self._files is not None:
            self._check_open()
            self._files.drop(keys)

    def record_environment(self, body: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Record where this attempt runs; ``files`` are of the run, under the store's own names."""
        if self._writer is not None and self._files is not None:
            for name, content in files.items():
                self._files.put(name, content)
            self._writer.event("environment", body)
