"""PNG files of our own: whatever decodes PNG gives the pixels back, exactly."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image as Pillow

from wandbkeras.data_types.png import encode_png
from wandbkeras.errors import UsageError

SIDES = st.integers(1, 9)
SHAPES = st.one_of(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES, st.sampled_from([3, 4])))


@given(SHAPES.flatmap(lambda shape: arrays.arrays(np.uint8, shape)))
def test_the_pixels_come_back(pixels: Any) -> None:
    """Pillow reads what was written, in the mode of its channels."""
    image = Pillow.open(io.BytesIO(encode_png(pixels)))
    assert image.mode == ("L" if pixels.ndim == 2 else {3: "RGB", 4: "RGBA"}[pixels.shape[2]])
    assert (np.array(image) == pixels).all()


@given(st.tuples(SIDES, SIDES).flatmap(lambda shape: arrays.arrays(np.uint16, shape)))
def test_sixteen_bits_come_back(pixels: Any) -> None:
    """Labels above 255 do not wrap."""
    assert (np.array(Pillow.open(io.BytesIO(encode_png(pixels)))) == pixels).all()


def test_the_memory_layout_does_not_matter() -> None:
    """Views, transposed, reversed and big-endian arrays are their values."""
    pixels = np.arange(60, dtype=np.uint16).reshape(6, 10)
    for view in (pixels[::-1, ::2], pixels.T, pixels.astype(">u2"), np.asfortranarray(pixels)):
        assert (np.array(Pillow.open(io.BytesIO(encode_png(view)))) == view).all()


def test_every_chunk_has_its_checksum() -> None:
    """The file is the signature, then a header, the data and the end, each with its CRC-32."""
    data = encode_png(np.zeros((2, 3, 3), np.uint8))
    kinds, at = [], 8
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", data, at + 8 + size) == (zlib.crc32(kind + content),)
        kinds.append(kind)
        at += 12 + size
    assert (data[:8], kinds) == (b"\x89PNG\r\n\x1a\n", [b"IHDR", b"IDAT", b"IEND"])


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 2)),
        np.zeros((2, 2, 2), np.uint8),
        np.zeros((2, 2, 3), np.int16),
        np.zeros((0, 3), np.uint8),
    ],
)
def test_nothing_else_is_written(pixels: Any) -> None:
    """What a PNG file doesn't hold is refused, not cut."""
    with pytest.raises(UsageError, match="PNG: received"):
        encode_png(pixels)
