"""Videos as animated PNG files, read by another implementation."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest

from wandbkeras.callbacks.animation import encode_apng
from wandbkeras.data_types.image_file import inspect_image

FRAMES = np.random.default_rng(7).integers(0, 256, (3, 4, 5, 4)).astype(np.uint8)


@pytest.mark.parametrize("frames", [FRAMES, FRAMES[..., :3], FRAMES[..., :1], FRAMES[..., 0]])
def test_every_frame_is_what_it_was(frames: np.ndarray) -> None:  # type: ignore[type-arg]
    """Pillow shows the same pixels, each for a quarter of a second, for ever."""
    content = encode_apng(frames)
    found = inspect_image(content)
    assert found is not None
    assert (found.format, found.width, found.height) == ("png", 5, 4)
    with PIL.Image.open(io.BytesIO(content)) as image:
        assert (image.n_frames, image.info["loop"]) == (3, 0)  # type: ignore[attr-defined]
        for number, frame in enumerate(frames):
            image.seek(number)
            assert image.info["duration"] == 250
            expected = frame[..., 0] if frame.shape[-1] == 1 else frame
            mode = {2: "L", 3: "RGBA" if expected.shape[-1] == 4 else "RGB"}[expected.ndim]
            np.testing.assert_array_equal(np.asarray(image.convert(mode)), expected)


def test_one_frame_is_an_image() -> None:
    """A video of one frame opens like any image."""
    with PIL.Image.open(io.BytesIO(encode_apng(FRAMES[:1, ..., :3]))) as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), FRAMES[0, ..., :3])
