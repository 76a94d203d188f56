"""Images of a stored table as W&B holds them: each a file, and the values that name the files.

The bytes stay in the table until they are to be sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from wandbkeras.data_types.image_file import ImageFile, inspect_image
from wandbkeras.errors import DamagedError
from wandbkeras.store.checks import IMAGE
from wandbkeras.store.schema import ArtifactFile, is_relative_path
from wandbkeras.store.table_schema import TableColumn
from wandbkeras.store.tables import StoredTable
from wandbkeras.sync.media import media_path
from wandbkeras.sync.table_json import all_labels, class_set_name, made_classes, reference_to

MASK_SUFFIX = ".mask.png"


@dataclass(frozen=True)
class TableImage(ArtifactFile):
    """A file that is a cell of a table: ``table`` is its path in the run."""

    table: str
    column: str
    row: int


@dataclass(frozen=True)
class Found:
    """An image in a row of a table."""

    file: TableImage
    image: ImageFile
    name: str | None
    caption: str | None
    masks: Mapping[str, TableImage]

    @property
    def format(self) -> str:
        """As the client says it: the ending of the file's name."""
        ending = (self.name or "").rpartition(".")[2]
        return ending if self.name and "." in self.name else self.image.format


@dataclass(frozen=True)
class RenderedImages:
    """What W&B holds of images that were logged under a key.

    ``labels`` are the class labels of their masks, by the names of these.
    """

    value: Mapping[str, Any]
    files: Mapping[str, ArtifactFile]
    labels: Mapping[str, Mapping[str, str]]


def found_images(
    stored: StoredTable, column: TableColumn, batch: pa.RecordBatch, start: int
) -> list[Found | None]:
    """Return the images of a column in a batch whose first row is the table's row ``start``."""

    def files(name: str) -> list[tuple[TableImage, dict[str, Any]] | None]:
        cells = enumerate(batch.column(name).to_pylist(), start)
        return [
            None if cell is None else (_file(stored, name, row, cell["bytes"]), cell)
            for row, cell in cells
        ]

    masks = {mask.name: files(mask.column) for mask in column.masks}
    captions = [None] * len(batch)
    if column.caption is not None:
        captions = batch.column(column.caption).to_pylist()
    found: list[Found | None] = []
    for index, given in enumerate(files(column.name)):
        if given is None:
            found.append(None)
            continue
        file, cell = given
        mine = {name: cells[index] for name, cells in masks.items()}
        found.append(
            Found(
                file,
                _inspected(stored, file, cell["bytes"]),
                _safe_name(cell["path"]),
                captions[index],
                {name: mask[0] for name, mask in mine.items() if mask is not None},
            )
        )
    return found


def render_images(stored: StoredTable) -> RenderedImages:
    """Return what W&B holds of a table of images that a row names."""
    images: list[Found] = []
    with stored.opened() as (parquet, schema):
        column = schema.columns[0] if schema.columns else None
        if column is None or column.kind != "image":
            raise DamagedError(f"{stored.path}: not the images that its row names")
        for batch in stored.batches_of(parquet):
            images += filter(None, found_images(stored, column, batch, len(images)))
    if len(images) != stored.rows or not images:
        raise DamagedError(f"{stored.path}: images are missing")
    files: dict[str, ArtifactFile] = {}
    paths = [_run_path(stored, image, files) for image in images]
    masks = [_run_masks(stored, image, files) for image in images]
    labels = {m.name: {str(i): label for i, label in m.labels} for m in column.masks}
    if stored.kind == IMAGE:
        (image,), (path,) = images, paths
        value = {**_described(image), "_type": "image-file", **_sized(image.file, path)}
        return RenderedImages({**value, **({"masks": masks[0]} if masks[0] else {})}, files, labels)
    value = {
        "_type": "images/separated",
        "width": images[0].image.width,
        "height": images[0].image.height,
        "format": images[0].format,
        "count": len(images),
        "filenames": paths,
    }
    # The client leaves all captions out if the first image has none.
    if any(image.caption is not None for image in images):
        value["captions"] = [image.caption for image in images]
    if any(masks):
        value["all_masks"] = [mask or None for mask in masks]
    return RenderedImages(value, files, labels)


def artifact_image(
    image: Found, column: TableColumn, media: dict[str, ArtifactFile]
) -> dict[str, Any]:
    """Return the cell of an image in a table of an artifact, its files added to ``media``."""
    path = _artifact_path(image)
    media[path] = image.file
    cell = {**_described(image), "_type": "image-file", "path": path, "sha256": image.file.sha256}
    if labels := all_labels(column):
        name = class_set_name(labels)
        media[name] = made_classes(labels)
        cell["classes"] = reference_to(name, media[name])
    masks = {}
    for mask, file in image.masks.items():
        path = f"media/images/mask/{file.md5[:20]}{MASK_SUFFIX}"
        media[path] = file
        masks[mask] = {"_type": "mask", "path": path, "sha256": file.sha256}
    return {**cell, "masks": masks} if masks else cell


def write_images(stored: StoredTable, targets: Mapping[tuple[str, int], Sequence[Path]]) -> None:
    """Write images of a table to files: of each column and row to as many paths."""
    columns = sorted({column for column, _ in targets})
    start = 0
    with stored.opened() as (parquet, _):
        for batch in stored.batches_of(parquet, columns=columns):
            for column in columns:
                array = batch.column(column)
                for row in range(len(batch)):
                    for path in targets.get((column, start + row), ()):
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(array[row].as_py()["bytes"])
            start += len(batch)


def _file(stored: StoredTable, column: str, row: int, data: bytes) -> TableImage:
    return TableImage(
        sha256=hashlib.sha256(data).hexdigest(),
        md5=hashlib.md5(data, usedforsecurity=False).hexdigest(),
        size=len(data),
        table=stored.file.path,
        column=column,
        row=row,
    )


def _inspected(stored: StoredTable, file: TableImage, data: bytes) -> ImageFile:
    found = inspect_image(data)
    if found is None:
        raise DamagedError(f"{stored.path}: row {file.row} of {file.column!r:.80} is no image")
    return found


def _safe_name(name: str | None) -> str | None:
    """Return the name of the file that the image came from; None if it can't be one of W&B's."""
    is_one = name is not None and is_relative_path(name) and "/" not in name and len(name) < 200
    return name if is_one else None


def _described(image: Found) -> dict[str, Any]:
    size = {"format": image.format, "width": image.image.width, "height": image.image.height}
    return size if image.caption is None else {**size, "caption": image.caption}


def _sized(file: ArtifactFile, path: str) -> dict[str, Any]:
    return {"sha256": file.sha256, "size": file.size, "path": path}


def _run_path(stored: StoredTable, image: Found, files: dict[str, ArtifactFile]) -> str:
    path = media_path("images", *_where(stored), image.file, f".{image.format}")
    files[path] = image.file
    return path


def _run_masks(
    stored: StoredTable, image: Found, files: dict[str, ArtifactFile]
) -> dict[str, dict[str, Any]]:
    masks = {}
    for name, file in image.masks.items():
        path = media_path("images/mask", *_where(stored), file, MASK_SUFFIX)
        files[path] = file
        masks[name] = {"_type": "mask", **_sized(file, path)}
    return masks


def _where(stored: StoredTable) -> tuple[str, int]:
    assert stored.key is not None and stored.step is not None
    return stored.key, stored.step


def _artifact_path(image: Found) -> str:
    """Return the path in an artifact: that of a file keeps its name, as in wandb."""
    if image.name is None:
        return f"media/images/{image.file.md5[:20]}.{image.format}"
    return f"media/images/{image.file.sha256[:20]}/{image.name}"
