"""What an image may be asked for is checked when it is made, with what is expected."""

from __future__ import annotations

from typing import Any

import pytest

from wandbkeras.data_types.image_options import checked_mode, checked_scale
from wandbkeras.errors import UsageError

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("scale", ["bytes", (1, 0), (0, NAN), (0, INF), 3, (1, 2, 3)])
def test_a_scale_is_unit_byte_or_two_values(scale: Any) -> None:
    """Anything else is refused with what is expected."""
    with pytest.raises(UsageError, match="expected 'unit'"):
        checked_scale(scale)


def test_a_mode_is_one_that_w_and_b_shows() -> None:
    """None leaves it to the channels; another is refused."""
    known = ["L", "RGB", "RGBA", None]
    assert [checked_mode(mode, "Image") for mode in known] == known
    with pytest.raises(UsageError, match="Image: received mode 'CMYK'; expected one of L"):
        checked_mode("CMYK", "Image")
