"""A training script that uses all of wandb's API that is ours too: run it with either module.

    python -m tests.whole_program wandb|wandbkeras STORE

Nothing in it is random and nothing asks the clock, so that what two runs of it leave behind can be
compared.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

RUN_ID = "k3j9x2ab"
EXIT_CODE = 3
NAN, INFINITY = float("nan"), float("inf")
LABELS = {0: "road", 1: "car", 2: "sky"}
CONFIG = {
    "lr": 1e-3,
    "batch_size": 32,
    "large": 2**53 + 1,
    "optimizer": {"name": "adam", "betas": [0.9, 0.999], "schedule": {"warmup": 5, "empty": {}}},
    "none": None,
    "flag": True,
    "text": "größe ✓ 中",
    "dotted.key": 1,
    "": "no name",
    "ключ": "значение",
    "7": "seven",
    "numbers": {1: "one", 2: {"nested": 2}},
    "tuple": (1, 2.5, "three"),
    "array": np.arange(3),
    "float32": np.float32(0.1),
    "date": datetime(2026, 11, 23, 5, 45),
    "path": Path("data/train.csv"),
    "not finite": NAN,
}


def main(module: ModuleType, store: str) -> None:
    run = module.init(
        project="digits",
        id=RUN_ID,
        name="größte run ✓",
        group="group",
        job_type="train",
        tags=["zwei", "one", "Ω"],
        notes="Notes\nin two lines, größe ✓",
        config=CONFIG,
        dir=store,
    )
    run.config.update({"later": {"a": 1, "b": {"c": [1, 2]}}})
    run.config["added"] = "x"
    run.config.update({"lr": 2e-3}, allow_val_change=True)
    define(run)
    log_scalars(run)
    log_media(module, run)
    log_tables(module, run)
    save_files(run)
    log_artifacts(module, run)
    summarise(run)
    run.finish(exit_code=EXIT_CODE)


def define(run: Any) -> None:
    run.define_metric("epoch", hidden=True)
    run.define_metric("val/*", step_metric="epoch", summary="min,max")
    run.define_metric("acc", summary="max,mean,last,first")
    run.define_metric("by_hand", summary="max")
    run.define_metric("aggregated_*", summary="min,max")
    run.define_metric("secret", summary="none")
    run.define_metric("loss", step_metric="epoch", step_sync=False, summary="min")


def log_scalars(run: Any) -> None:
    for epoch in range(4):
        print(f"epoch {epoch}")
        for percent in (10, 100):
            sys.stdout.write(f"\r\x1b[32m{percent:4}%\x1b[0m größe")
        print()
        run.log({"epoch": epoch, "loss": 1 / (epoch + 1), "val/loss": 2 / (epoch + 1)})
        run.log({"acc": epoch / 7, "val/acc": epoch / 3, "secret": epoch, "by_hand": epoch})
    run.log({"nan": NAN, "inf": INFINITY, "-inf": -INFINITY, "zero": -0.0, "tiny": 5e-324})
    run.log({"large": 2**53 + 1, "largest": 2**63 - 1, "least": -(2**63), "float": 1e308})
    run.log({"none": None, "true": True, "false": False, "text": "größe ✓ 中\n\"'\\"})
    run.log({"": 1, "_wandb": 2, "beside": 3})
    run.log(
        {
            "größe/ключ": 1,
            "a.b": 2,
            "nested_dict": {"c": {"d": 3}},
            "7": 7,
            "3.5": 3.5,
            " ": 0,
            "_x": 1,
        }
    )
    run.log({"float32": np.float32(0.1), "int8": np.int8(-3), "bool": np.bool_(True)})
    run.log({"list": [1, 2.5, NAN, "x", None], "array": np.arange(6).reshape(2, 3)})
    run.log({"first half": 1}, commit=False)
    run.log({"second half": 2})
    run.log({"stepped": 1}, step=100)
    run.log({"stepped too": 2}, step=100, commit=True)
    run.log({"at": 1, "_timestamp": 1795412700.25})
    run.log({})
    run.log({"nan": NAN, "acc": NAN})


def log_media(module: ModuleType, run: Any) -> None:
    values = np.linspace(-1, 2, 1000)
    run.log({"hist": module.Histogram(values), "few": module.Histogram(values, num_bins=8)})
    run.log({"given": module.Histogram(np_histogram=([1, 2], [0.0, 0.5, 1.0])), "big": values})
    pixels = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3)
    run.log({"file": module.Image("digit.png", caption="größe ✓")})
    run.log({"files": [module.Image("digit.png"), module.Image("other.png")]})
    mask = {"predictions": {"mask_data": pixels[..., 0] % 3, "class_labels": LABELS}}
    run.log({"array_image": module.Image(pixels)})
    run.log({"array_mask": module.Image(pixels, masks=mask)})


def log_tables(module: ModuleType, run: Any) -> None:
    table = module.Table(columns=["n", "x", "text", "flag", "list"])
    for i in range(3):
        table.add_data(i, NAN if i == 1 else i / 3, f"größe {i}", i > 0, [i, 1])
    run.log({"table": table, "beside": 1})
    run.log({"aggregated_table": module.Table(columns=["n"], data=[[1]]), "aggregated_loss": 1})
    shown = module.Table(columns=["i", "image"])
    shown.add_data(0, module.Image("digit.png", caption="a"))
    shown.add_data(1, module.Image("other.png", caption="b"))
    run.log({"shown/images": shown})


def save_files(run: Any) -> None:
    run.save("notes.txt")
    run.save("deep/*.json", base_path=".")


def log_artifacts(module: ModuleType, run: Any) -> None:
    for version in range(3):
        Path("weights.bin").write_bytes(bytes([version]) * 1000)
        model = module.Artifact(
            "model",
            "model",
            description=f"version {version}, größe",
            metadata={"epoch": version, "größe": {"a": [1, 2.5]}, "flag": True},
        )
        model.add_file("weights.bin")
        model.add_dir("deep", name="extra")
        run.log_artifact(model, aliases=[f"epoch-{version}", "best"][: 1 + version % 2])
    again = module.Artifact("model", "model", metadata={"epoch": 3})
    again.add_file("weights.bin")
    run.log_artifact(again)
    data = module.Artifact("dataset", "dataset", metadata={"rows": 5})
    data.add_file("notes.txt", name="notes/größe.txt")
    data.add_reference("https://example.org/train.csv", name="train", checksum=False)
    data.add(module.Table(columns=["n"], data=[[1], [2]]), "numbers")
    run.use_artifact(data)
    run.log_artifact("notes.txt", name="notes", type="text")
    run.log_model("weights.bin", name="plain", aliases=["one"])


def summarise(run: Any) -> None:
    run.summary["by hand"] = {"nested": 1, "größe": [1, NAN]}
    run.summary["by_hand"] = 0.5
    print("the last words", "w" * 5_000, file=sys.stderr)
    run.summary.update({"best": INFINITY, "count": 2**53 + 1, "7": 1, "none": None, "a.b": 2})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", choices=("wandb", "wandbkeras"))
    parser.add_argument("store")
    arguments = parser.parse_args()
    main(importlib.import_module(arguments.module), arguments.store)
    sys.exit(EXIT_CODE)
