"""Pictures of a stored run, as files and as pixels."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import PIL.Image

from wandbkeras.store.reader import StoredRun


def pictures(run: StoredRun, key: str) -> list[list[tuple[bytes, str | None]]]:
    """Return the files and captions of the pictures of each step that logged some under a key."""
    tables = [table.read() for table in run.tables() if table.key == key]
    return [
        [
            (cell["bytes"], caption)
            for cell, caption in zip(
                table["image"].to_pylist(), table["image.caption"].to_pylist(), strict=True
            )
        ]
        for table in tables
    ]


def pixels(content: bytes) -> Any:
    """Return the pixels of a PNG file: (height, width) or (height, width, 3 or 4)."""
    with PIL.Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)
