"""What a run that was imported from wandb has beside what a run of ours holds.

It lies in files of the run below ``wandb-import/``, so it is checked, repaired and cleaned like any
other file; docs/format.md, "Imported runs".
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from wandbkeras.errors import DamagedError
from wandbkeras.store.checks import Instant, Seconds, convert
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import CLIENT_FILES, ArtifactFile

FOLDER = "wandb-import/"
RECORDS = f"{FOLDER}records.wandb"
DETAILS = f"{FOLDER}details.json"
CLIENT_FILES_FOLDER = f"{FOLDER}files/"
# The client makes these anew when it syncs.
MADE_BY_CLIENT = frozenset(
    {"config.yaml", "output.log", "wandb-metadata.json", "wandb-summary.json"}
)
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Details:
    """``started`` is the start that W&B shows, in seconds since the epoch.

    ``runtime`` is the summary's ``_runtime``, in seconds: of the last row, or of the end.
    ``mask_labels`` are class labels of masks; ``version_ids`` W&B's ids of the artifact versions by
    their manifests and ``sequence_ids`` of the artifacts by their names: values of rows name them.
    """

    started: Instant | None = None
    runtime: Seconds | None = None
    mask_labels: dict[str, dict[str, str]] = field(default_factory=dict)
    version_ids: dict[str, str] = field(default_factory=dict)
    sequence_ids: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), ensure_ascii=False).encode()


class Imported:
    """What was imported with ``run``: nothing, for a run that was recorded."""

    def __init__(self, run: StoredRun) -> None:
        self._run = run

    @cached_property
    def details(self) -> Details:
        file = self._run.files.get(DETAILS)
        if file is None:
            return Details()
        path = self._run.blob(file.sha256)
        try:
            if file.size > _MOST_BYTES:
                raise ValueError(f"more than {_MOST_BYTES} bytes")
            return convert(json.loads(path.read_bytes()), Details)
        except ValueError as error:
            raise DamagedError(f"{path}: not what an import writes ({error})") from error

    @property
    def records(self) -> Path | None:
        """The log of the records that are sent again as they were."""
        file = self._run.files.get(RECORDS)
        return None if file is None else self._run.blob(file.sha256)

    @property
    def files(self) -> dict[str, ArtifactFile]:
        """The client's own files that it doesn't make anew, by their names."""
        found = {
            name.removeprefix(CLIENT_FILES_FOLDER): file
            for name, file in self._run.files.items()
            if name.startswith(CLIENT_FILES_FOLDER)
        }
        return {n: file for n, file in found.items() if n in CLIENT_FILES - MADE_BY_CLIENT}
