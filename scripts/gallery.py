"""The pictures of docs/gallery.md, drawn from the runs that its examples record.

Nothing but the store is read, so what a picture shows is what a run holds.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import PIL.Image

import wandbkeras
from wandbkeras.store.reader import StoredRun

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLUE, ORANGE, GREY = "#1f6feb", "#d9730d", "#8b949e"


def main() -> None:
    text = (DOCS / "gallery.md").read_text()
    names: dict[str, Any] = {"keras": keras, "np": np, "wandbkeras": wandbkeras}
    mpl.use("Agg")
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    with tempfile.TemporaryDirectory() as folder:
        before = Path.cwd()
        os.chdir(folder)
        try:
            for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S):
                exec(block, names)
            for name, draw in PICTURES.items():
                figure = draw(names[name])
                (DOCS / "pictures").mkdir(exist_ok=True)
                figure.savefig(DOCS / "pictures" / f"{name}.png", dpi=110, bbox_inches="tight")
        finally:
            os.chdir(before)


def draw_metrics(run: StoredRun) -> Any:
    history = run.history(["epoch", "loss", "val_loss", "batch/loss"]).to_pandas()
    figure, axes = plt.subplots(figsize=(6, 2.6))
    batches, epochs = history.dropna(subset="batch/loss"), history.dropna(subset="epoch")
    axes.plot(batches["_step"], batches["batch/loss"], color=GREY, label="batch/loss")
    axes.plot(epochs["_step"], epochs["loss"], "o-", color=BLUE, label="loss")
    axes.plot(epochs["_step"], epochs["val_loss"], "o-", color=ORANGE, label="val_loss")
    axes.set(xlabel="_step", ylabel="loss")
    axes.legend(frameon=False)
    return figure


def draw_best(run: StoredRun) -> Any:
    history = run.history(["epoch", "val_accuracy"]).to_pandas()
    figure, axes = plt.subplots(figsize=(6, 2.6))
    axes.plot(history["epoch"], history["val_accuracy"], "o-", color=BLUE)
    for version in run.artifacts:
        place = version.metadata["epoch"], version.metadata["val_accuracy"]
        axes.plot(*place, "o", color=ORANGE)
    best = run.summary["best_epoch"], run.summary["best_val_accuracy"]
    axes.annotate("best", best, (-8, -16), textcoords="offset points", color=ORANGE)
    axes.set(xlabel="epoch", ylabel="val_accuracy", title="orange: a version of the artifact")
    return figure


def draw_weights(run: StoredRun) -> Any:
    return _draw_histograms(run, "parameters/head.weights")


def draw_gradients(run: StoredRun) -> Any:
    return _draw_histograms(run, "gradients/conv/kernel.gradient")


def _draw_histograms(run: StoredRun, key: str) -> Any:
    """Draw the histograms of each epoch, one above the other."""
    rows = [row for row in run.histograms().to_pylist() if row["key"] == key]
    figure, axes = plt.subplots(figsize=(6, 2.8))
    highest = max(max(row["values"]) for row in rows)
    for epoch, row in reversed(list(enumerate(rows))):
        middles = np.convolve(row["bins"], [0.5, 0.5], "valid")
        heights = epoch + 1.6 * np.array(row["values"]) / highest
        axes.fill_between(middles, epoch, heights, color=BLUE, alpha=0.75, lw=0.8, ec="white")
    axes.set(xlabel=key, ylabel="epoch")
    return figure


def draw_examples(run: StoredRun) -> Any:
    rows = run.table("examples").to_pylist()
    figure, places = plt.subplots(2, 6, figsize=(6, 2.5))
    for place, row in zip(places.flat, rows, strict=True):
        place.imshow(_pixels(row["image"]), cmap="gray", vmin=0, vmax=255)
        place.set_title(row["image.caption"])
        place.axis("off")
    return figure


def draw_masks(run: StoredRun) -> Any:
    images = [_pixels(row["image"]) for row in run.table("examples").to_pylist()]
    figure, places = plt.subplots(3, len(images) // 3, figsize=(4.5, 3.2))
    names = ["input", "prediction", "reference"]
    for number, image in enumerate(images):
        place = places[number % 3, number // 3]
        place.imshow(image, cmap="gray", vmin=0, vmax=255)
        place.set(xticks=[], yticks=[])
        if number < len(names):
            place.set_ylabel(names[number], rotation=0, ha="right", va="center")
    return figure


def draw_evaluation(run: StoredRun) -> Any:
    rows = run.table("validation_predictions").to_pylist()[:6]
    (version,) = (v for v in run.artifacts if v.name == "wb_validation_data")
    data = run.stored_table(version.tables["validation_data"]).read().to_pylist()
    columns = ["val_row", "output:max_class"]
    figure, places = plt.subplots(
        len(rows) + 1, len(columns) + 2, figsize=(6, 3.6), gridspec_kw={"hspace": 0.1}
    )
    head = [*columns, "input:image", "target"]
    for place, text in zip(places[0], head, strict=True):
        place.text(0.5, 0.2, text, ha="center", weight="bold")
    for line, row in zip(places[1:], rows, strict=True):
        there = data[row["val_row"]]
        for place, name in zip(line, columns, strict=False):
            place.text(0.5, 0.4, row[name], ha="center")
        line[2].imshow(_pixels(there["input:image"]), cmap="gray", vmin=0, vmax=255)
        line[3].text(0.5, 0.4, there["target"], ha="center")
    for place in places.flat:
        place.axis("off")
    return figure


def draw_graph(run: StoredRun) -> Any:
    graph = run.summary["graph"]
    figure, axes = plt.subplots(figsize=(6, 1.8))
    places = {node["id"]: number for number, node in enumerate(graph["nodes"])}
    for node in graph["nodes"]:
        parameters = node.get("num_parameters") or 0
        text = f"{node['name']}\n{node['class_name']}\n{parameters:,} parameters"
        box = {"boxstyle": "round,pad=0.5", "fc": "white", "ec": BLUE}
        axes.text(places[node["id"]], 0, text, ha="center", va="center", bbox=box, fontsize=8)
    for source, target in graph["edges"]:
        ends = {"xy": (places[target] - 0.36, 0), "xytext": (places[source] + 0.36, 0)}
        axes.annotate("", **ends, arrowprops={"arrowstyle": "->", "color": GREY})
    title = f"GMACs {run.summary['GMACs']:.3g}, GFLOPs_total {run.summary['GFLOPs_total']:.3g}"
    axes.set(xlim=(-0.5, len(places) - 0.5), ylim=(-1, 1), title=title)
    axes.axis("off")
    return figure


def _pixels(image: dict[str, Any]) -> Any:
    with PIL.Image.open(io.BytesIO(image["bytes"])) as opened:
        return np.asarray(opened)


PICTURES: dict[str, Callable[[StoredRun], Any]] = {
    "metrics": draw_metrics,
    "best": draw_best,
    "weights": draw_weights,
    "gradients": draw_gradients,
    "examples": draw_examples,
    "masks": draw_masks,
    "evaluation": draw_evaluation,
    "graph": draw_graph,
}


if __name__ == "__main__":
    main()
