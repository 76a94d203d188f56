"""Videos as animated PNG files: without loss, and an image to whatever shows images.

Source: the PNG specification, https://www.w3.org/TR/png-3/, sections 4.9 and 11.3.4.
"""

from __future__ import annotations

import struct

from wandbkeras.data_types.pixels import Array
from wandbkeras.data_types.png import chunk, encode_png

FRAMES_PER_SECOND = 4  # wandb's own default
# Of the file of a frame: signature and header come before its one data chunk, the end after it.
_HEAD, _END = 33, 12


def encode_apng(frames: Array) -> bytes:
    """Return a PNG file that shows frames one after the other, again and again.

    Args:
        frames: uint8 of shape (frames, height, width) or (frames, height, width, channels) with 1,
            3 or 4 channels.

    >>> import numpy as np
    >>> encode_apng(np.zeros((2, 4, 5), np.uint8))[37:41]
    b'acTL'
    """
    if frames.ndim == 4 and frames.shape[-1] == 1:
        frames = frames[..., 0]
    count, height, width = frames.shape[:3]
    files = [encode_png(frame) for frame in frames]
    parts = [files[0][:_HEAD], chunk(b"acTL", struct.pack(">II", count, 0))]
    number = 0  # of frame controls and of data after the first frame, in the order of the file
    for index, file in enumerate(files):
        control = (number, width, height, 0, 0, 1, FRAMES_PER_SECOND, 0, 0)
        parts.append(chunk(b"fcTL", struct.pack(">IIIIIHHBB", *control)))
        number += 1
        data = file[_HEAD:-_END]
        if index:
            data = chunk(b"fdAT", struct.pack(">I", number) + data[8:-4])
            number += 1
        parts.append(data)
    return b"".join((*parts, files[0][-_END:]))
