"""Image files are known by their headers alone, and nothing else is taken for one."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from wandbkeras.data_types.image_file import ImageFile, inspect_image


def encoded(
    kind: str, mode: str = "RGB", size: tuple[int, int] = (37, 21), **options: Any
) -> bytes:
    file = io.BytesIO()
    Pillow.effect_noise(size, 50).convert(mode).save(file, kind, **options)
    return file.getvalue()


FILES = {
    "png": encoded("PNG"),
    "grey png": encoded("PNG", "L"),
    "jpg": encoded("JPEG"),
    "progressive jpg": encoded("JPEG", progressive=True),
    "jpg with exif": encoded("JPEG", exif=b"Exif\x00\x00" + b"\xff\xc0" * 40),
    "gif": encoded("GIF", "P"),
    "bmp": encoded("BMP"),
    "webp": encoded("WEBP"),
    "lossless webp": encoded("WEBP", lossless=True),
    "webp with alpha": encoded("WEBP", "RGBA", exif=b"Exif\x00\x00"),
}


@pytest.mark.parametrize("name", FILES)
def test_format_and_size_are_those_that_pillow_finds(name: str) -> None:
    """PNG, JPEG, GIF, BMP and the three kinds of WebP, of any size."""
    found = inspect_image(FILES[name])
    image = Pillow.open(io.BytesIO(FILES[name]))
    assert found == ImageFile({"JPEG": "jpg"}.get(image.format, image.format.lower()), 37, 21)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_anywhere_is_an_image_or_none(name: str) -> None:
    """No end of a header raises; once the size is there, it is the right one."""
    data = FILES[name]
    for size in range(min(len(data), 400)):
        found = inspect_image(data[:size])
        assert found is None or (found.width, found.height) == (37, 21)


@given(st.sampled_from([data[:12] for data in FILES.values()]), st.binary(max_size=60))
def test_no_bytes_raise(begin: bytes, rest: bytes) -> None:
    """A stranger's file is an image with pixels, or none."""
    found = inspect_image(begin + rest)
    assert found is None or (found.width > 0 and found.height > 0)


@pytest.mark.parametrize("data", [b"", b"GIF", b"PAR1", b"<svg/>", b"RIFF\0\0\0\0WAVE", b"BM"])
def test_other_files_are_none(data: bytes) -> None:
    """What W&B doesn't show as an image is none."""
    assert inspect_image(data) is None
