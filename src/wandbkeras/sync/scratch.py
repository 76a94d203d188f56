"""Files that are made while a run is rendered: hashed as they are written, gone with the sync."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from wandbkeras.store.schema import ArtifactFile

_CHUNK = 1 << 20


@dataclass(frozen=True)
class ScratchFile(ArtifactFile):
    """A file that was made of a run's values, and where it lies."""

    path: Path


class Scratch:
    """A directory of its own for what a sync makes; it is made when it is first asked for."""

    def __init__(self) -> None:
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._number = 0

    def new_path(self) -> Path:
        """Return a path where nothing is."""
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(prefix="wandbkeras-sync-")
        self._number += 1
        return Path(self._directory.name) / str(self._number)

    def close(self) -> None:
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class JsonRows:
    """A JSON file that ends in rows: lists, written as ``encode`` writes them."""

    def __init__(self, path: Path, beginning: str, encode: Callable[[Any], str]) -> None:
        self._path = path
        self._file = path.open("xb")
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._size = 0
        self._encode = encode
        self._separator = encode([0, 0])[2:-2]
        self._follows = False
        self._write(beginning)

    def add(self, columns: Sequence[Sequence[Any]]) -> None:
        """Add rows, whose cells are given column by column."""
        rows = [self._encode(list(row)) for row in zip(*columns, strict=True)]
        if rows:
            self._write((self._separator if self._follows else "") + self._separator.join(rows))
            self._follows = True

    def finish(self, end: str) -> ScratchFile:
        self._write(end)
        self._file.close()
        return ScratchFile(self._sha256.hexdigest(), self._md5.hexdigest(), self._size, self._path)

    def _write(self, text: str) -> None:
        data = text.encode()
        self._file.write(data)
        self._sha256.update(data)
        self._md5.update(data)
        self._size += len(data)


class ArrayFile:
    """A file of one array, as ``numpy.savez_compressed`` makes it, written piece by piece."""

    def __init__(self, path: Path, name: str, dtype: np.dtype[Any], shape: Sequence[int]) -> None:
        self._path = path
        self._zip = zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED)
        self._file: IO[bytes] = self._zip.open(f"{name}.npy", "w", force_zip64=True)
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": tuple(shape),
        }
        np.lib.format.write_array_header_1_0(self._file, header)

    def write(self, array: np.ndarray[Any, Any]) -> None:
        self._file.write(np.ascontiguousarray(array).tobytes())

    def finish(self) -> ScratchFile:
        self._file.close()
        self._zip.close()
        sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
        with self._path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                sha256.update(chunk)
                md5.update(chunk)
                size += len(chunk)
        return ScratchFile(sha256.hexdigest(), md5.hexdigest(), size, self._path)
