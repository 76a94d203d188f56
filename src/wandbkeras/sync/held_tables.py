"""The tables of a stored run, each rendered once, when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wandbkeras.store.checks import TABLE
from wandbkeras.store.schema import TableFile
from wandbkeras.store.tables import StoredTable
from wandbkeras.sync.images import RenderedImages, render_images
from wandbkeras.sync.scratch import Scratch
from wandbkeras.sync.tables import RenderedTable, render_table


class HeldTables:
    """Those that rows name, in their order, and those in artifact versions; by paths in the run.

    No other table links to those that only ``dropped`` versions hold. ``images`` were rendered
    before and are not read again.
    """

    def __init__(
        self,
        named: Iterable[StoredTable],
        in_artifacts: Iterable[StoredTable],
        dropped: Iterable[StoredTable] = (),
        images: Mapping[TableFile, RenderedImages] | None = None,
    ) -> None:
        self.named = list({table.file.path: table for table in named}.values())
        self.scratch = Scratch()
        self._stored = {t.file.path: t for t in (*in_artifacts, *self.named)}
        self._held = frozenset(self._stored)
        self._stored |= {t.file.path: t for t in dropped if t.file.path not in self._held}
        self._tables: dict[str, RenderedTable] = {}
        self.rendered_images = dict(images or {})

    @property
    def tables(self) -> list[StoredTable]:
        """The tables that rows name, without images."""
        return [table for table in self.named if table.kind == TABLE]

    @property
    def images(self) -> list[StoredTable]:
        """The tables of images that rows name."""
        return [table for table in self.named if table.kind != TABLE]

    def stored(self, path: str) -> StoredTable:
        return self._stored[path]

    def table(self, path: str) -> RenderedTable:
        """Return what W&B holds of a table."""
        if path not in self._tables:
            stored = self._stored[path]
            self._tables[path] = render_table(stored, self.scratch, self._held.__contains__)
        return self._tables[path]

    def image(self, path: str) -> RenderedImages:
        """Return what W&B holds of images."""
        stored = self._stored[path]
        if stored.file not in self.rendered_images:
            self.rendered_images[stored.file] = render_images(stored)
        return self.rendered_images[stored.file]
