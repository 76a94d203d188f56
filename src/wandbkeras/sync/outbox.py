"""The files that W&B's client uploads, where it finds them: copied only if they lie nowhere yet."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path

from wandbkeras.store.schema import CLIENT_FILES, ArtifactFile
from wandbkeras.sync.content import Content
from wandbkeras.sync.images import TableImage, write_images
from wandbkeras.sync.media import MadeFile
from wandbkeras.sync.scratch import ScratchFile


class Outbox:
    """Lays out files of ``content``; what has to be written for that goes to ``directory``.

    Images are written when :meth:`finish` is called, in one pass over each table.
    """

    def __init__(self, content: Content, directory: Path) -> None:
        self._content = content
        self._made = directory / "made"
        # Of the client's own: it may delete what is there, so nothing is.
        self.staging = directory / "staging"
        self.staging.mkdir(exist_ok=True)
        self._images: dict[str, dict[tuple[str, int], list[Path]]] = defaultdict(dict)

    def put(self, file: ArtifactFile, path: Path) -> None:
        """Let a file be at ``path``; a blob is a link there, because the client only reads it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(file, MadeFile):
            path.write_bytes(file.data)
        elif isinstance(file, TableImage):
            self._images[file.table].setdefault((file.column, file.row), []).append(path)
        elif path.name in CLIENT_FILES:
            # A copy: the client writes to files of these names.
            shutil.copyfile(self._source(file), path)
        else:
            path.symlink_to(self._source(file))

    def local_path(self, file: ArtifactFile) -> str:
        """Return where a file lies."""
        if not isinstance(file, (MadeFile, TableImage)):
            return str(self._source(file))
        path = self._made / file.sha256
        if isinstance(file, TableImage) or not path.exists():
            self.put(file, path)
        return str(path.resolve())

    def finish(self) -> None:
        """Write the images."""
        for table, targets in self._images.items():
            write_images(self._content.tables.stored(table), targets)
        self._images.clear()

    def _source(self, file: ArtifactFile) -> Path:
        if isinstance(file, ScratchFile):
            return file.path.resolve()
        return self._content.run.blob(file.sha256).resolve()
