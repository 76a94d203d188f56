"""Record Keras training offline; replay it into Weights & Biases later, and prove it arrived.

    import keras, wandbkeras

    run = wandbkeras.init(project="digits", dir="runs", config={"lr": 1e-3})
    model.fit(x, y, validation_data=(xv, yv), callbacks=[wandbkeras.WandbCallback()])
    run.finish()

Names are loaded on first use: importing the package loads none of keras, tensorflow, wandb and
pyarrow, and recording with ``log`` loads none of the first three either.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from wandbkeras.callbacks import (
        WandbCallback,
        WandbEvalCallback,
        WandbMetricsLogger,
        WandbModelCheckpoint,
    )
    from wandbkeras.data_types import (
        ClassColumn,
        Classes,
        Histogram,
        Image,
        ImageColumn,
        RowColumn,
        Table,
    )
    from wandbkeras.errors import WandbkerasError
    from wandbkeras.models import load_model
    from wandbkeras.recording.artifact import Artifact
    from wandbkeras.recording.mappings import Config, Summary
    from wandbkeras.recording.recorder import Run
    from wandbkeras.recording.session import (
        alert,
        define_metric,
        finish,
        init,
        log,
        log_artifact,
        log_model,
        mark_preempting,
        open_table,
        save,
        use_artifact,
    )
    from wandbkeras.store.directory import Store
    from wandbkeras.store.reader import StoredRun

    run: Run | None
    config: Config
    summary: Summary

_HOMES = {
    "Artifact": "recording.artifact",
    "ClassColumn": "data_types",
    "Classes": "data_types",
    "Histogram": "data_types",
    "Image": "data_types",
    "ImageColumn": "data_types",
    "RowColumn": "data_types",
    "Run": "recording.recorder",
    "Store": "store.directory",
    "StoredRun": "store.reader",
    "Table": "data_types",
    "WandbCallback": "callbacks",
    "WandbEvalCallback": "callbacks",
    "WandbMetricsLogger": "callbacks",
    "WandbModelCheckpoint": "callbacks",
    "WandbkerasError": "errors",
    "alert": "recording.session",
    "define_metric": "recording.session",
    "finish": "recording.session",
    "init": "recording.session",
    "load_model": "models",
    "log": "recording.session",
    "log_artifact": "recording.session",
    "log_model": "recording.session",
    "mark_preempting": "recording.session",
    "open_table": "recording.session",
    "save": "recording.session",
    "use_artifact": "recording.session",
}
# Of the active run, so they are looked up each time.
_OF_THE_RUN = ("config", "run", "summary")

__all__ = [
    "Artifact",
    "ClassColumn",
    "Classes",
    "Histogram",
    "Image",
    "ImageColumn",
    "RowColumn",
    "Run",
    "Store",
    "StoredRun",
    "Table",
    "WandbCallback",
    "WandbEvalCallback",
    "WandbMetricsLogger",
    "WandbModelCheckpoint",
    "WandbkerasError",
    "alert",
    "config",
    "define_metric",
    "finish",
    "init",
    "load_model",
    "log",
    "log_artifact",
    "log_model",
    "mark_preempting",
    "open_table",
    "run",
    "save",
    "summary",
    "use_artifact",
]


def __getattr__(name: str) -> Any:
    if name in _OF_THE_RUN:
        session = importlib.import_module("wandbkeras.recording.session")
        if name == "run":
            return session.active_run()
        return getattr(session.require_run(name), name)
    if name in _HOMES:
        value = getattr(importlib.import_module(f"wandbkeras.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'wandbkeras' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
