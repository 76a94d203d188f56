"""What a writer puts into its run beside the journal: the contents of files, and tables.

A record names them once they are durable, so none that a reader sees is ever half there.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from wandbkeras.store.appender import Appender
from wandbkeras.store.blobs import add_blob, adopt_blob, remove_blob
from wandbkeras.store.layout import Layout
from wandbkeras.store.room import Room
from wandbkeras.store.schema import ArtifactFile
from wandbkeras.store.segments import Segments

if TYPE_CHECKING:
    import pyarrow as pa

    from wandbkeras.store.table_writer import TableShelf, TableWriter


class FileWriter:
    """Writes the files of the writer whose journal is in ``segments``, as far as there is room."""

    def __init__(self, room: Room, layout: Layout, segments: Segments, appender: Appender) -> None:
        self._room = room
        self._disk = room.disk
        self._layout = layout
        self._segments = segments
        self._appender = appender

    def check_room(self, size: int) -> None:
        """Return if the run may have ``size`` bytes more; else OSError."""
        self._room.check(size)

    def set_aside(self, size: int, least: int) -> int:
        """Count ``size`` bytes, which another process will write; return how many they are.

        They are fewer where the run may not take much, and none instead of less than ``least``.
        """
        return self._room.set_aside(size, least)

    def check_free(self, size: int) -> None:
        """Return if a file of ``size`` bytes has room in the run's directory; else OSError."""
        if size > self._disk.free(self._layout.root):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def add(self, source: Path, *, adopt: bool = False) -> ArtifactFile:
        """Copy a file into the run's blobs; with ``adopt`` move it there."""
        self._segments.check_place()
        return (adopt_blob if adopt else add_blob)(self._disk, self._layout, source)

    def new_table(self, schema: pa.Schema) -> TableWriter:
        """Begin a table of the run, under a temporary name; OSError if the disk takes no more."""
        from wandbkeras.store.table_writer import TableWriter  # and with it pyarrow

        self._segments.check_place()
        return TableWriter(self._disk, self._layout, schema)

    @functools.cached_property
    def shelf(self) -> TableShelf:
        """Where the tables of this writer get their places."""
        from wandbkeras.store.table_writer import TableShelf

        return TableShelf(self._disk, self._layout, self._segments.attempt, self._segments.writer)

    def remove(self, names: Iterable[str], *, named: bool = True) -> None:
        """Remove blobs that the run says it needs no more, once that survives a power cut.

        With ``named=False`` the run never said that it needs them. Other writers of the attempt may
        need them for what they are about to say.
        """
        if len(self._layout.writer_numbers(self._segments.attempt)) > 1:
            return
        if named and self._appender.is_short:
            return
        try:
            if named:
                self._segments.sync()
            self._segments.check_place()
            for name in names:
                remove_blob(self._disk, self._layout, name)
        except OSError as error:
            if named:
                self._appender.warn("blobs", f"what is no longer needed can't be removed: {error}")
