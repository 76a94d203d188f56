"""Images and masks: what is taken for one, and the file that it becomes."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image as Pillow

from wandbkeras import Classes, Image
from wandbkeras.data_types import Mask
from wandbkeras.errors import UsageError

COLOURS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 14


def pixels(image: Image | Mask) -> Any:
    return np.array(Pillow.open(io.BytesIO(image.encode().data)))


def png(mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(COLOURS).convert(mode).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "given",
    [COLOURS, keras.ops.convert_to_tensor(COLOURS), COLOURS.tolist(), Pillow.fromarray(COLOURS)],
)
def test_pixels_are_pixels(given: Any) -> None:
    """Arrays, tensors of the backend, nested lists and images of Pillow give the same file."""
    image = Image(given)
    assert (image.width, image.height) == (3, 2)
    assert pixels(image).tolist() == COLOURS.tolist()


def test_a_file_is_kept_as_it_is(tmp_path: Path) -> None:
    """Its bytes and its name are kept: nothing is decoded or encoded."""
    (tmp_path / "a.png").write_bytes(png())
    image = Image(tmp_path / "a.png", caption="c")
    assert (image.encode().data, image.encode().name) == (png(), "a.png")
    assert (image.width, image.height, image.caption) == (3, 2, "c")
    assert Image(str(tmp_path / "a.png")).encode() == image.encode()
    assert Image(png()).encode().data == png()


def test_another_format_or_mode_is_decoded() -> None:
    """What W&B doesn't show, and what is asked for in another mode, becomes PNG."""
    file = io.BytesIO()
    Pillow.fromarray(COLOURS).save(file, "TIFF")
    assert pixels(Image(file.getvalue())).tolist() == COLOURS.tolist()
    assert pixels(Image(png(), mode="L")).shape == (2, 3)


@pytest.mark.parametrize(
    ("mode", "expected"), [("1", "L"), ("P", "RGB"), ("CMYK", "RGB"), ("LA", "RGBA"), ("I", "L")]
)
def test_an_image_of_pillow_in_any_mode_is_taken(mode: str, expected: str) -> None:
    """It becomes the nearest mode that W&B shows."""
    image = Image(Pillow.fromarray(COLOURS).convert("L" if mode == "I" else "RGB").convert(mode))
    assert Pillow.open(io.BytesIO(image.encode().data)).mode == expected


def test_an_array_is_taken_as_it_is_now() -> None:
    """A training that writes its next batch to the same memory changes nothing."""
    array = COLOURS.copy()
    image = Image(array)
    array[:] = 0
    assert pixels(image).tolist() == COLOURS.tolist()


def test_floats_by_the_rule_of_their_set_or_their_own() -> None:
    """``scale`` of the image goes before that of the set in which it is logged."""
    half = np.full((1, 1), 0.5)
    assert Pillow.open(io.BytesIO(Image(half).encode("unit").data)).getpixel((0, 0)) == 128
    assert (
        Pillow.open(io.BytesIO(Image(half, scale=(0, 10)).encode("unit").data)).getpixel((0, 0))
        == 13
    )
    assert pixels(Image(half, mode="RGB", scale="unit")).tolist() == [[[128, 128, 128]]]


def test_masks_have_names_labels_and_classes() -> None:
    """As wandb takes them, or the labels alone."""
    labels = np.array([[0, 1, 2]])
    image = Image(
        np.zeros((1, 3)),
        masks={
            "a": {"mask_data": labels, "class_labels": {0: "road"}},
            "b": labels,
            "c": Mask([[7]]),
        },
        classes=["x"],
    )
    assert {name: mask.labels for name, mask in image.masks.items()} == {
        "a": {0: "road"},
        "b": {0: "class_0", 1: "class_1", 2: "class_2"},
        "c": {7: "class_7"},
    }
    assert image.classes == Classes(["x"])
    assert pixels(image.masks["a"]).tolist() == labels.tolist()


@pytest.mark.parametrize(
    "labels", [[[0, 255]], [[0, 256]], [[65535]], [[True, False]], [[0.0, 3.0]], [[[1], [2]]]]
)
def test_no_label_of_a_mask_wraps(labels: Any) -> None:
    """Labels to 65535 come back, which wandb takes modulo 256."""
    expected = np.squeeze(np.array(labels), axis=2) if np.ndim(labels) == 3 else np.array(labels)
    assert (pixels(Mask(labels)) == expected).all()


@pytest.mark.parametrize(
    "labels", [[[-1]], [[65536]], [[0.5]], [0, 1], [[["a"]]], [[float("nan")]], np.zeros((2, 2, 2))]
)
def test_what_is_no_mask_is_refused(labels: Any) -> None:
    """The line says what was received."""
    with pytest.raises(UsageError, match="mask: received"):
        Mask(labels)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"data_or_path": "nowhere.png"}, "nowhere.png can't be read"),
        ({"data_or_path": b"no image"}, "no image"),
        ({"data_or_path": COLOURS, "mode": "HSV"}, "expected one of L, RGB, RGBA"),
        ({"data_or_path": COLOURS, "caption": 3}, "caption: received 3"),
        ({"data_or_path": COLOURS, "masks": [1]}, "expected a dict of masks"),
        ({"data_or_path": COLOURS, "masks": {"a": {"path": "x"}}}, "expected mask_data"),
        ({"data_or_path": COLOURS, "masks": {3: [[0]]}}, "the name of a mask"),
        ({"data_or_path": COLOURS, "classes": "cat"}, "Classes: received"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], match: str) -> None:
    """At once, with what was received and expected."""
    with pytest.raises(UsageError, match=match):
        Image(**arguments)


def test_without_pillow_only_known_files_are_taken() -> None:
    """Pixels and PNG need no Pillow; what needs it says so."""
    script = (
        "import sys; sys.modules['PIL'] = sys.modules['PIL.Image'] = None\n"
        "import numpy, wandbkeras\n"
        "image = wandbkeras.Image(numpy.zeros((2, 3)))\n"
        "wandbkeras.Image(image.encode().data)\n"
        "wandbkeras.Image(b'II*\\0 a TIFF file')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "install Pillow, or pass pixels" in done.stderr.splitlines()[-1]
