"""Exporting: a stored run as the directory that wandb leaves offline, for plain ``wandb sync``."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wandbkeras.errors import UsageError
from wandbkeras.store.layout import run_directory_name
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import ArtifactFile
from wandbkeras.sync.artifacts import Artifact
from wandbkeras.sync.content import Content
from wandbkeras.sync.destination import DEFAULT_PROJECT, Destination
from wandbkeras.sync.outbox import Outbox
from wandbkeras.sync.plan import Plan
from wandbkeras.sync.render import render

# Of the file's first record: what wrote it.
_PRODUCER = "wandbkeras"


@dataclass(frozen=True)
class Export:
    """What was left: ``directories``, to be synced in this order, and what they hold.

    ``not_sent`` names what W&B does not take, a line each.
    """

    path: Path
    run_id: str
    directories: tuple[Path, ...]
    rows: int
    artifacts: int
    files: int
    not_sent: tuple[str, ...]


class _Copies(Outbox):
    """Files of their own, so that the run may go: hard links where the file system has them.

    They are written to ``directory``, which will be ``place``: W&B's client wants whole paths.
    """

    def __init__(self, content: Content, directory: Path, place: Path) -> None:
        super().__init__(content, directory)
        self._place = place.resolve()
        self._directory = directory
        self.staging = self._place / self.staging.name

    def put(self, file: ArtifactFile, path: Path) -> None:
        super().put(file, path)
        if path.is_symlink():
            source = path.readlink()
            path.unlink()
            try:
                path.hardlink_to(source)
            except OSError:  # another file system, or one without
                shutil.copyfile(source, path)

    def local_path(self, file: ArtifactFile) -> str:
        path = self._made / file.sha256
        if not path.exists():
            self.put(file, path)
        return str(self._place / path.relative_to(self._directory))


def export_run(path: Path, directory: Path) -> Export:
    """Write the run at ``path`` below ``directory`` as ``offline-run-<time>-<id>``.

    One directory, but for a run with tables that link to others: what they link to has to be there
    before, so each step of links is a directory of its own, in ``1``, ``2``, … The directory is
    there whole or not at all. UsageError if it is there already.
    """
    run = StoredRun(path, strict=True)
    name = f"offline-{run_directory_name(run.info.id, run.info.created)}"
    directory.mkdir(parents=True, exist_ok=True)
    with (
        Content(run, (run.info.entity or "", run.info.project or "", run.info.id)) as content,
        tempfile.TemporaryDirectory(prefix=f".{name}-", dir=directory) as scratch,
    ):
        waves = content.versions.waves(content.artifacts) or [[]]
        places = [directory / str(number) / name for number in range(1, len(waves) + 1)]
        places = places if len(waves) > 1 else [directory / name]
        for place in places:
            if place.exists():
                raise UsageError(f"{place}: is there already: name another directory with -o")
        folders: list[Path] = []
        for wave, place in zip(waves, places, strict=True):
            rendering = Path(scratch) / str(len(folders)) / name
            is_last = place is places[-1]
            folders.append(_rendered(content, wave, rendering, place, is_last=is_last))
        for folder, place in zip(folders, places, strict=True):
            place.parent.mkdir(exist_ok=True)
            folder.rename(place)
        return Export(
            path,
            run.info.id,
            tuple(places),
            rows=len(content.steps),
            artifacts=len(content.artifacts),
            files=len(content.files),
            not_sent=tuple(content.not_sent),
        )


def _rendered(
    content: Content, artifacts: Sequence[Artifact], folder: Path, place: Path, *, is_last: bool
) -> Path:
    """Render some of the artifact versions, and with the last of them all the rest."""
    info = content.info
    plan = Plan(
        Destination("", info.entity, info.project or DEFAULT_PROJECT, info.id),
        info.entity or "",
        first_row=0 if is_last else len(content.steps),
        artifacts=artifacts,
        files=tuple(content.files) if is_last else (),
    )
    folder.mkdir(parents=True)
    outbox = _Copies(content, folder, place)
    return render(content, plan, folder.parent, _PRODUCER, is_last=is_last, outbox=outbox)
