"""Images and masks as a user gives them, and the files that they become when they are logged."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wandbkeras.data_types.classes import Classes, classes_of
from wandbkeras.data_types.image_file import ImageFile, inspect_image
from wandbkeras.data_types.image_options import Scale, checked_mode, checked_scale
from wandbkeras.data_types.pixels import Array, as_array, as_image, in_mode, to_bytes
from wandbkeras.data_types.png import encode_png
from wandbkeras.errors import UsageError

_MAX_LABEL = 2**16 - 1


@dataclass(frozen=True)
class Encoded:
    """An image as a file: its bytes, and its name if it came from a file.

    ``nan`` and ``clipped`` count the elements that no byte holds.
    """

    data: bytes
    name: str | None = None
    nan: int = 0
    clipped: int = 0


class Mask:
    """A class label for each pixel of an image.

    Args:
        mask_data: integers from 0 to 65535 of shape (height, width). W&B shows those to 255.
        class_labels: their names; default: ``class_<label>`` for each that occurs, as in wandb.

    >>> Mask([[0, 2]]).labels
    {0: 'class_0', 2: 'class_2'}
    """

    def __init__(self, mask_data: Any, class_labels: Any = None) -> None:
        data = as_array(mask_data)
        if data.ndim == 3 and 1 in (data.shape[0], data.shape[2]):
            data = data[:, :, 0] if data.shape[2] == 1 else data[0]
        if data.ndim != 2 or not data.size or data.dtype.kind not in "buif":
            raise UsageError(
                f"mask: received {data.dtype} of shape {data.shape}; expected integers of shape "
                "(height, width)"
            )
        low, high = data.min(), data.max()
        whole = data.dtype.kind != "f" or bool((data == np.floor(data)).all())
        if not (whole and low >= 0 and high <= _MAX_LABEL):
            raise UsageError(
                f"mask: received values from {low} to {high}; expected integers from 0 to "
                f"{_MAX_LABEL}"
            )
        self.data: Array = data.astype(np.uint8 if high <= 255 else np.uint16)
        classes = classes_of(class_labels)
        self.labels: dict[int, str] = (
            {int(label): f"class_{label}" for label in np.unique(self.data)}
            if classes is None
            else classes.labels
        )

    def encode(self) -> Encoded:
        """Return the mask as a grey PNG file, of 16 bits if a label needs them."""
        return Encoded(encode_png(self.data))


class Image:
    """An image, as ``wandb.Image``; made a PNG file when it is logged.

    Args:
        data_or_path: pixels of shape (height, width) or (height, width, channels) with 1, 3 or 4
            channels; a path or the bytes of an image file, which is kept as it is; an image of
            Pillow or of wandb.
        mode: L, RGB or RGBA; default: by the channels.
        caption: shown with it.
        masks: name to ``{"mask_data": labels, "class_labels": names}``, or to the labels alone.
        classes: names of the classes of its masks.
        scale: what floats mean: ``"unit"`` (0 to 1), ``"byte"`` (0 to 255), or the two values that
            become 0 and 255. Default: decided once for all images that are logged together, see
            :func:`wandbkeras.data_types.pixels.scale_of`.

    >>> Image(np.zeros((4, 6, 3)), caption="nothing")
    <Image 6 x 4, 'nothing'>
    """

    _log_type = "image-file"  # as wandb's own has

    def __init__(
        self,
        data_or_path: Any,
        mode: str | None = None,
        caption: str | None = None,
        masks: Mapping[str, Any] | None = None,
        classes: Any = None,
        *,
        scale: Any = None,
    ) -> None:
        self.mode = checked_mode(mode, "Image")
        self.caption = _text("caption", caption)
        self.classes: Classes | None = classes_of(classes)
        self.scale: Scale | None = checked_scale(scale)
        self.masks: dict[str, Mask] = _masks(masks)
        self.pixels: Array | None = None
        self.content: bytes | None = None
        self.file_name: str | None = None
        if isinstance(data_or_path, (str, os.PathLike)):
            self.file_name, self.content = _read(Path(data_or_path))
        elif isinstance(data_or_path, (bytes, bytearray, memoryview)):
            self.content = bytes(data_or_path)
        elif _is_pillow(data_or_path):
            self.pixels = _of_pillow(data_or_path)
        else:
            # A copy: a training may write its next batch to the same memory.
            self.pixels = as_image(data_or_path, "Image").copy()
        self._file = None if self.content is None else self._inspected(self.content)

    @property
    def width(self) -> int:
        """In pixels."""
        return int(self.pixels.shape[1]) if self._file is None else self._file.width  # type: ignore[union-attr]

    @property
    def height(self) -> int:
        """In pixels."""
        return int(self.pixels.shape[0]) if self._file is None else self._file.height  # type: ignore[union-attr]

    def encode(self, scale: Scale | None = None) -> Encoded:
        """Return the image as a file; ``scale`` is that of its set, if it has none of its own."""
        if self.content is not None:
            return Encoded(self.content, self.file_name)
        assert self.pixels is not None
        return encode_pixels(self.pixels, self.scale or scale, self.mode)

    def _inspected(self, content: bytes) -> ImageFile | None:
        """Return what the file is; one that W&B doesn't show, or in another mode, is decoded."""
        found = inspect_image(content)
        if found is not None and self.mode is None:
            return found
        self.pixels, self.content = _decoded(content, self.file_name), None
        return None

    def __repr__(self) -> str:
        caption = "" if self.caption is None else f", {self.caption!r}"
        return f"<Image {self.width} x {self.height}{caption}>"


def encode_pixels(pixels: Array, scale: Scale | None, mode: str | None = None) -> Encoded:
    """Return pixels, of a shape that :func:`as_image` gives, as a PNG file."""
    found = to_bytes(pixels, scale)
    return Encoded(encode_png(in_mode(found.data, mode)), None, found.nan, found.clipped)


def _masks(masks: Any) -> dict[str, Mask]:
    if masks is None:
        return {}
    if not isinstance(masks, Mapping):
        raise UsageError(f"masks: received {type(masks).__name__}; expected a dict of masks")
    return {_text("the name of a mask", name) or "": _mask(mask) for name, mask in masks.items()}


def _mask(mask: Any) -> Mask:
    if isinstance(mask, Mask):
        return mask
    if not isinstance(mask, Mapping):
        return Mask(mask)
    if "mask_data" not in mask:
        raise UsageError(f"mask: received the members {sorted(mask)}; expected mask_data")
    return Mask(mask["mask_data"], mask.get("class_labels"))


def _text(what: str, text: Any) -> str | None:
    if text is not None and not isinstance(text, str):
        raise UsageError(f"{what}: received {text!r:.80}; expected a string")
    return text


def _read(path: Path) -> tuple[str, bytes]:
    try:
        return path.name, path.read_bytes()
    except OSError as error:
        raise UsageError(f"Image: {path} can't be read ({error})") from error


def is_file(data: Any) -> bool:
    """Whether ``data`` is an image that is no array: a path, the bytes of a file, Pillow's."""
    return isinstance(data, (str, os.PathLike, bytes, bytearray, memoryview)) or _is_pillow(data)


def _is_pillow(data: Any) -> bool:
    return any(kind.__module__.startswith("PIL.") for kind in type(data).__mro__)


def _of_pillow(image: Any) -> Array:
    """Return the pixels of an image of Pillow, in the nearest mode that is known."""
    if image.mode not in ("L", "RGB", "RGBA"):
        has_alpha = image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info
        grey = image.mode in ("1", "I", "I;16", "F")
        image = image.convert("L" if grey else "RGBA" if has_alpha else "RGB")
    return np.array(image)


def _decoded(content: bytes, name: str | None) -> Array:
    import io

    try:
        pillow = importlib.import_module("PIL.Image")
    except ImportError as error:
        raise UsageError(
            f"Image: {name or 'these bytes'}: no PNG, JPEG, GIF, BMP or WebP file, or to be in "
            "another mode: install Pillow, or pass pixels"
        ) from error
    try:
        return _of_pillow(pillow.open(io.BytesIO(content)))
    except (OSError, ValueError) as error:
        raise UsageError(f"Image: {name or 'these bytes'}: no image ({error})") from error
