"""The files of a run being recorded: versions of artifacts, and files of the run itself."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from wandbkeras.errors import DamagedError, DiskFullError, UsageError
from wandbkeras.recording.artifact import Artifact
from wandbkeras.recording.saving import Policy
from wandbkeras.recording.tables import RunTables
from wandbkeras.store.schema import ArtifactFile, ArtifactVersion, TableFile
from wandbkeras.store.writer import RunWriter

if TYPE_CHECKING:
    from wandbkeras.store.reader import StoredRun


class RunFiles:
    """Brings files into the run of ``writer``; ``earlier`` is what earlier attempts recorded.

    Every blob of the run comes in here, so that one that is dropped is known to be needed by
    nothing else.
    """

    def __init__(self, writer: RunWriter, tables: RunTables, earlier: StoredRun | None) -> None:
        self._writer = writer
        self._tables = tables
        self._earlier = earlier
        # A version being logged needs blobs that nothing names yet.
        self._lock = threading.RLock()
        self._logged: dict[str, ArtifactVersion] = {}
        self._dropped: set[str] = set()
        self._watched: dict[str, Path] = {}
        self._copied: dict[str, tuple[Path, int, int, int]] = {}

    def log(
        self, artifact: Artifact, aliases: tuple[str, ...], step: int, *, used: bool = False
    ) -> None:
        """Record a version of an artifact; ``step`` is the run's, ``used``: the run takes it in."""
        writer = self._writer
        with self._lock, writer.counting(f"artifact {artifact.name!r}"):
            writer.files.check_room(sum(_status(path).st_size for path in artifact.files.values()))
            files: dict[str, ArtifactFile] = {}
            tables: dict[str, TableFile] = {}
            try:
                for name, path in artifact.files.items():
                    files[name] = writer.files.add(path, adopt=name in artifact.given)
                for name, table in artifact.tables.items():
                    tables[name] = self._tables.put(f"{artifact.name}/{name}", table, step)
                version = ArtifactVersion(
                    name=artifact.name,
                    type=artifact.type,
                    aliases=aliases,
                    description=artifact.description,
                    metadata=artifact.metadata,
                    files=files,
                    references=dict(artifact.references),
                    tables=tables,
                    used=used,
                    step=step,
                )
                self._logged[writer.artifact(version)] = version
            except (OSError, DiskFullError):
                self._remove({file.sha256 for file in files.values()}, named=False)
                writer.files.shelf.remove(tables.values())
                raise

    def versions(self, name: str | None = None) -> dict[str, ArtifactVersion]:
        """Return the versions that are kept, of one artifact or of all, by their manifests."""
        earlier = {} if self._earlier is None else self._earlier.artifacts_by_manifest
        return {
            manifest: version
            for manifest, version in {**earlier, **self._logged}.items()
            if manifest not in self._dropped and name in (None, version.name)
        }

    def drop(self, manifests: Iterable[str]) -> None:
        """Record that versions are dropped; then remove what of them nothing else needs.

        Their tables stay: of a version that a server holds, sync must know the digest.
        """
        with self._lock:
            kept = self.versions()
            contents: set[str] = set()
            for manifest in manifests:
                if manifest not in kept:
                    raise UsageError(f"drop_versions: {manifest!r:.80} is no version of this run")
                contents |= kept[manifest].blobs
                self._writer.event("artifact_dropped", {"manifest": manifest})
                self._dropped.add(manifest)
            self._remove(contents)

    def save(self, files: Mapping[str, Path], policy: Policy) -> None:
        """Record files of the run: now, at its end, or (``live``) now and, if changed, then."""
        with self._lock:
            for name, path in files.items():
                if policy != "end":
                    self._copy(name, path)
                if policy != "now":
                    self._watched[name] = path

    def put(self, name: str, content: bytes) -> None:
        """Record a file of the run whose bytes lie nowhere yet."""
        # In the background: it takes a while to import.
        import tempfile

        root = self._writer.layout.root
        with (
            self._lock,
            self._writer.counting(f"file {name!r}"),
            tempfile.TemporaryDirectory(prefix=".saving-", dir=root) as folder,
        ):
            path = Path(folder) / "content"
            path.write_bytes(content)
            self._copy(name, path)

    def finish(self) -> None:
        """Record what is to be kept as it is at the end."""
        with self._lock:
            for name, path in self._watched.items():
                try:
                    self._copy(name, path)
                except UsageError as error:
                    self._writer.event("failure", {"where": f"save {name}", "reason": str(error)})
                    print(f"wandbkeras: save: {error}", file=sys.stderr)  # noqa: T201

    def _copy(self, name: str, path: Path) -> None:
        """Record the file as it is now, in place of what had the name; not again if unchanged."""
        status = _status(path)
        seen = (path, status.st_ino, status.st_size, status.st_mtime_ns)
        if self._copied.get(name) == seen:
            return
        before = self._files().get(name)
        with self._writer.counting(f"file {name!r}"):
            self._writer.files.check_room(status.st_size)
            file = self._writer.files.add(path)
            if file != before:
                self._writer.event("file", {"path": name, **asdict(file)})
            self._copied[name] = seen
        if before is not None:
            self._remove({before.sha256})

    def _files(self) -> dict[str, ArtifactFile]:
        earlier = {} if self._earlier is None else self._earlier.files
        own = self._writer.state.files
        return {**earlier, **{name: ArtifactFile(**members) for name, members in own.items()}}

    def _remove(self, contents: set[str], *, named: bool = True) -> None:
        """Remove blobs, but for what is needed; ``named`` if the run ever named them."""
        try:
            needed = {file.sha256 for file in self._files().values()}
            needed = needed.union(*(version.blobs for version in self.versions().values()))
        except DamagedError:  # of an earlier attempt: what it needs is not known
            return
        self._writer.files.remove(contents - needed, named=named)


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error})") from error
