"""What kind of image file some bytes are, and its size in pixels, by the file's own header.

Nothing is decoded, so no image of a stranger costs more than a look at its first bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
# Markers of a JPEG file that begin a frame, and those that have no length.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})


@dataclass(frozen=True)
class ImageFile:
    """The format of an image file (png, jpg, gif, bmp, webp) and its size in pixels."""

    format: str
    width: int
    height: int


def inspect_image(data: bytes) -> ImageFile | None:
    """Return what image file ``data`` is; None if it is none that W&B shows, or has no pixels.

    >>> inspect_image(b"GIF89a" + bytes([3, 0, 2, 0]))
    ImageFile(format='gif', width=3, height=2)
    >>> inspect_image(b"not an image")
    """
    for magic, kind, sides in _FORMATS:
        if data.startswith(magic):
            try:
                width, height = sides(data)
            except (struct.error, IndexError):
                return None
            return ImageFile(kind, width, height) if width > 0 and height > 0 else None
    return None


def _png(data: bytes) -> tuple[int, int]:
    return struct.unpack_from(">II", data, 16)


def _gif(data: bytes) -> tuple[int, int]:
    return struct.unpack_from("<HH", data, 6)


def _bmp(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height)  # negative: its first row is the top


def _jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    while True:
        while data[at] != 0xFF or data[at + 1] in (0x00, 0xFF):
            at += 1
        marker = data[at + 1]
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 if marker in _ALONE else 2 + struct.unpack_from(">H", data, at + 2)[0]


def _webp(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + _uint24(data, 24), 1 + _uint24(data, 27)
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def _riff(data: bytes) -> tuple[int, int]:
    return _webp(data) if data[8:12] == b"WEBP" else (0, 0)


def _uint24(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")


_FORMATS: tuple[tuple[bytes, str, Callable[[bytes], tuple[int, int]]], ...] = (
    (_PNG, "png", _png),
    (_JPEG, "jpg", _jpeg),
    (b"GIF87a", "gif", _gif),
    (b"GIF89a", "gif", _gif),
    (b"BM", "bmp", _bmp),
    (b"RIFF", "webp", _riff),
)
