"""Hypothesis strategies for what a run records, and the equality that recording promises."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

# A few names, so that rows share them; some that a column name could stumble over.
NAMES = ("loss", "val.acc", "a", "a.b", "é ö", "", "list.element", "x" * 200)
names = st.sampled_from(NAMES)

integers = st.integers(-(2**63), 2**63 - 1)
small_integers = st.integers(-(2**53), 2**53)
floats = st.floats(allow_nan=True, allow_infinity=True, width=64)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = st.none() | st.booleans() | integers | floats | texts
finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def histograms(draw: st.DrawFn) -> dict[str, Any]:
    """A histogram as a row holds it; one of raw values has ``stats``, a ready-made one has none."""
    counts = draw(st.lists(st.integers(0, 2**40), min_size=1, max_size=6))
    edges = draw(st.lists(finite, min_size=len(counts) + 1, max_size=len(counts) + 1))
    value = {"_type": "histogram", "values": counts, "bins": edges}
    if draw(st.booleans()):
        value["stats"] = dict.fromkeys(("count", "nan", "posinf", "neginf", "zero"), sum(counts))
        if draw(st.booleans()):
            value["stats"] |= {name: draw(finite) for name in ("min", "max", "mean", "std")}
    return value


lists = st.recursive(st.lists(scalars, max_size=3), lambda s: st.lists(s, max_size=3), max_leaves=4)
values = scalars | lists | histograms()
rows = st.dictionaries(names, values, max_size=5)


def canonical(value: Any) -> Any:
    """Return what compares equal exactly when recording kept the value.

    NaN equals NaN, True is not 1, and an int may come back as the float of the same number.
    """
    if isinstance(value, dict):
        return {key: canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, float) and math.isnan(value):
        return "a NaN"
    return ("bool", value) if isinstance(value, bool) else value
