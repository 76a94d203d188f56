"""Pictures of a stored run, as files and as pixels."""

from __future__ import annotations

from typing import Any

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
    import tensorflow as tf

    decoded = tf.io.decode_png(content).numpy()
    return decoded[..., 0] if decoded.shape[-1] == 1 else decoded
