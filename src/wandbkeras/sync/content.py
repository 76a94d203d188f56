"""What a destination must hold when a stored run has arrived, in W&B's terms.

Planning, rendering and verifying all start from this one description, so they can't disagree.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

from wandbkeras.store.metrics import MetricDefinition
from wandbkeras.store.reader import State, StoredRun
from wandbkeras.store.schema import ArtifactFile, ArtifactVersion, Row, RunInfo
from wandbkeras.sync.media import Rendered, rendered

_ARTIFACT_HEADER = b"wandb-artifact-manifest-v1\n"


@dataclass(frozen=True)
class Artifact:
    """An artifact version with the digests by which W&B knows it.

    ``files`` maps paths to base64 MD5s, and to W&B's digests those of references. ``aliases`` are
    those that it ends with: a later version of the run takes them over.
    """

    version: ArtifactVersion
    number: int
    digest: str
    files: Mapping[str, str]
    aliases: tuple[str, ...]


class Content:
    """A stored run as W&B must hold it."""

    def __init__(self, run: StoredRun) -> None:
        self.run = run
        self.info: RunInfo = run.info
        self.state: State = run.state
        total = run.folded
        self.config: Mapping[str, Any] = _config_wire(total.config)
        self.metrics: list[MetricDefinition] = total.metrics.all()
        self.runtime: float = total.runtime
        self.process: Mapping[str, Any] = run.attempts[0].state.process if run.attempts else {}
        self.exit_code: int = total.exit_code if total.exit_code is not None else 1

    @property
    def is_running(self) -> bool:
        return self.state == "running"

    @property
    def remote_state(self) -> str:
        """The state that W&B shows: a crashed run has an exit code other than 0 there."""
        return "failed" if self.state == "crashed" else self.state

    @cached_property
    def steps(self) -> list[int]:
        """The steps of the rows to hold; of a running run those that can't change any more."""
        steps: list[int] = self.run.history(columns=[])["_step"].to_pylist()
        settled = self.run.settled_steps if self.is_running else None
        return steps if settled is None else [step for step in steps if step < settled]

    def rows(self, start: int = 0) -> Iterator[Row]:
        """Yield the rows from number ``start``, their values as W&B holds them."""
        for row in islice(self.run.rows(), start, len(self.steps)):
            values = {k: rendered(value, k, row.step).value for k, value in row.values.items()}
            yield Row(row.step, row.timestamp, row.runtime, values, row.attempt)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The summary with what W&B adds: the time of the last row and the run's duration.

        ``_step`` is not ours to say: the client sets it to the last row that it sends, and leaves
        it out if it sends none.
        """
        total = self.run.folded
        summary = {key: item.value for key, item in self._summary.items()}
        if total.last_step is not None:
            summary["_timestamp"] = total.last_row_timestamp
        return {**summary, "_runtime": int(self.runtime)}

    @cached_property
    def _summary(self) -> dict[str, Rendered]:
        # The client that computes summaries online leaves out what was logged as None.
        items = self.run.folded.summary.items()
        return {key: rendered(v, key, "summary") for key, v in items if v is not None}

    @cached_property
    def artifacts(self) -> list[Artifact]:
        """The versions in order; one whose content equals the version before it is that version."""
        artifacts: list[Artifact] = []
        latest: dict[str, int] = {}
        holders: dict[tuple[str, str], int] = {}
        for number, version in enumerate(self.run.artifacts):
            files = file_digests(version)
            digest = artifact_digest(files)
            index = latest.get(version.name)
            if index is None or artifacts[index].digest != digest:
                index = latest[version.name] = len(artifacts)
                artifacts.append(Artifact(version, number, digest, files, aliases=()))
            holders.update(dict.fromkeys(((version.name, a) for a in version.aliases), index))
        return [
            replace(artifact, aliases=tuple(a for (_, a), i in holders.items() if i == index))
            for index, artifact in enumerate(artifacts)
        ]

    @cached_property
    def dropped_digests(self) -> set[str]:
        """The digests of versions that the run no longer keeps, but a server may hold."""
        dropped = {artifact_digest(file_digests(v)) for v in self.run.dropped_artifacts}
        return dropped - {artifact.digest for artifact in self.artifacts}

    @cached_property
    def files(self) -> Mapping[str, ArtifactFile]:
        """The files of the run itself, by their names: those saved with it, and those of values."""
        of_values = (item.files for item in self._summary.values())
        return {**self.run.files, **{name: f for files in of_values for name, f in files.items()}}


def file_digests(version: ArtifactVersion) -> dict[str, str]:
    """Return the digest by which W&B knows each file and each reference of a version."""
    files = {path: _base64(file.md5) for path, file in version.files.items()}
    return files | {path: reference.digest for path, reference in version.references.items()}


def artifact_digest(files: Mapping[str, str]) -> str:
    """Return the digest by which W&B knows an artifact with these base64 MD5s.

    Source: ``ArtifactManifestV1.digest`` of wandb: the MD5 over a header and ``path:digest`` lines.

    >>> artifact_digest({"a.txt": "1B2M2Y8AsgTpgAmY7PhCfg=="})
    'e1e2f5ddfb42e46c3380a5bda27bf008'
    """
    digest = hashlib.md5(_ARTIFACT_HEADER, usedforsecurity=False)
    for path, file_digest in sorted(files.items()):
        digest.update(f"{path}:{file_digest}\n".encode())
    return digest.hexdigest()


def _base64(hexadecimal: str) -> str:
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


def _config_wire(value: Any) -> Any:
    """Return a config as W&B's client sends it: JSON proper, where NaN is null.

    The client keeps the leaves of nested dictionaries, so one without leaves is not there.
    """
    if isinstance(value, dict):
        items = {key: _config_wire(item) for key, item in value.items()}
        return {key: item for key, item in items.items() if item != {}}
    return _json_proper(value)


def _json_proper(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json_proper(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json_proper(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
