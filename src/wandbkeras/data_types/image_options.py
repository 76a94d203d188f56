"""What images and columns of images may be asked for: their mode, and what their floats mean.

Without NumPy: who records no image does not wait for it.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from wandbkeras.errors import UsageError

# "unit" is 0 to 1 and "byte" 0 to 255; else the values that become 0 and 255.
Scale = Literal["unit", "byte"] | tuple[float, float]

# By the number of channels.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def checked_mode(mode: str | None, what: str) -> str | None:
    """Return the mode; UsageError if it is none of those that are known."""
    if mode is not None and mode not in MODES.values():
        raise UsageError(f"{what}: received mode {mode!r}; expected one of L, RGB, RGBA")
    return mode


def checked_scale(scale: Any) -> Scale | None:
    """Return a scale as a user gave it; UsageError if it is none."""
    if scale is None or scale in ("unit", "byte"):
        return scale  # type: ignore[no-any-return]
    try:
        low, high = map(float, scale)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise UsageError(
            f"scale: received {scale!r:.80}; expected 'unit' (0 to 1), 'byte' (0 to 255), or the "
            "two values that become 0 and 255"
        )
    return low, high
