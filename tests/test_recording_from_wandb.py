"""wandb's own images, classes, histograms and tables are recorded as ours would be."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import wandb
from PIL import Image as Pillow

import wandbkeras
from wandbkeras import Run, StoredRun
from wandbkeras.errors import UnsupportedValueError, UsageError

Start = Callable[..., Run]
Stored = Callable[[Run], StoredRun]
PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3) * 10
LABELS = {0: "road", 1: "car"}
MASK = np.array([[0, 1, 0, 1]] * 2)


def pixels(cell: dict[str, bytes]) -> Any:
    return np.array(Pillow.open(io.BytesIO(cell["bytes"])))


def test_images_of_wandb_are_images(start: Start, stored: Stored, tmp_path: Path) -> None:
    """Pixels, caption, masks with their labels, classes; a file keeps its bytes and its name."""
    Pillow.fromarray(PIXELS).save(tmp_path / "photo.png")
    masks = {"truth": {"mask_data": MASK, "class_labels": LABELS}}
    classes = wandb.Classes([{"id": 7, "name": "sky"}])
    run = start()
    run.log({"one": wandb.Image(PIXELS, caption="c", masks=masks, classes=classes)})
    run.log({"list": [wandb.Image(str(tmp_path / "photo.png")), wandbkeras.Image(PIXELS)]})
    run.finish()
    one, several = stored(run).tables()
    column = one.schema().columns[0]
    assert dict(column.labels) == {**LABELS, 7: "sky"}
    assert [(mask.name, dict(mask.labels)) for mask in column.masks] == [("truth", LABELS)]
    read = one.read()
    assert pixels(read["image"][0].as_py()).tolist() == PIXELS.tolist()
    assert pixels(read[column.masks[0].column][0].as_py()).tolist() == MASK.tolist()
    assert (read["image.caption"][0].as_py(), read["image"][0].as_py()["path"]) == ("c", None)
    first, second = several.read()["image"].to_pylist()
    assert first == {"bytes": (tmp_path / "photo.png").read_bytes(), "path": "photo.png"}
    assert pixels(second).tolist() == PIXELS.tolist()


def test_a_table_of_wandb_is_a_table(start: Start, stored: Stored) -> None:
    """Its cells, and what its types say: classes, rows of another table, what may be missing."""
    other = wandb.Table(columns=["x"], data=[[1], [2]])
    table = wandb.Table(columns=[], data=[])
    table.add_column("class", [0, 1])
    table.cast("class", wandb.Classes([{"id": i, "name": n} for i, n in LABELS.items()]).get_type())
    table.add_column("row", other.get_index())
    table.add_column("image", [wandb.Image(PIXELS), wandb.Image(PIXELS)])
    table.add_column("n", [1, 2])
    run = start()
    run.log({"other": other})
    run.log({"t": table})
    run.finish()
    first, found = stored(run).tables()
    assert (first.read().to_pydict(), first.schema().columns[0].optional) == ({"x": [1, 2]}, True)
    columns = {column.name: column for column in found.schema().columns}
    assert [(column.kind, column.optional) for column in columns.values()] == [
        ("class", False),
        ("row", False),
        ("image", False),
        ("integer", False),
    ]
    assert dict(columns["class"].labels) == LABELS
    assert columns["row"].table == first.file.path


def test_a_dataframe_is_a_table(start: Start, stored: Stored) -> None:
    """As wandb takes one that is logged."""
    run = start()
    run.log({"frame": pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})})
    run.finish()
    assert stored(run).table("frame").to_pydict() == {"a": [1, 2], "b": ["x", "y"]}


def test_histograms_of_wandb_stay_what_they_were(start: Start, stored: Stored) -> None:
    """In a row and in a cell."""
    histogram = wandb.Histogram([1.0, 2.0, 3.0], num_bins=2)
    run = start()
    run.log({"h": histogram, "t": wandb.Table(columns=["h"], data=[[histogram]])})
    run.finish()
    assert stored(run).histograms()["values"].to_pylist() == [[1.0, 2.0]]
    assert stored(run).table("t").num_rows == 1


def test_what_is_not_taken_is_said(start: Start) -> None:
    """Boxes, references and other media are refused, not dropped."""
    box = {
        "position": {"middle": [1, 1], "width": 1, "height": 1},
        "class_id": 0,
        "domain": "pixel",
    }
    boxes = {"b": {"box_data": [box], "class_labels": LABELS}}
    run = start()
    with pytest.raises(UnsupportedValueError, match="bounding boxes are not recorded"):
        run.log({"i": wandb.Image(PIXELS, boxes=boxes)})
    with pytest.raises(UnsupportedValueError, match="lies elsewhere"):
        run.log({"i": wandb.Image("https://example.org/a.png")})
    with pytest.raises(UnsupportedValueError, match=r"of type wandb\..*Html"):
        run.log({"i": wandb.Html("<p>")})
    with pytest.raises(UsageError, match="log the table that it links to first"):
        key = wandb.Table(columns=["x"], data=[[1]]).get_index()
        table = wandb.Table(columns=[], data=[])
        table.add_column("row", key)
        run.log({"t": table})
