"""No hook of any part raises into training, whatever its part does."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import wandbkeras
from tests.keras_models import data, fit, shared_model
from wandbkeras import (
    WandbCallback,
    WandbEvalCallback,
    WandbMetricsLogger,
    WandbModelCheckpoint,
    callbacks,
)
from wandbkeras.callbacks.part import Part
from wandbkeras.store.reader import StoredRun

# Importing them has loaded every part.
ALONE = {WandbEvalCallback, WandbMetricsLogger, WandbModelCheckpoint}
Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]


def parts(of: type[Part] = Part) -> list[type[Part]]:
    """Every part of the package; WandbCallback's modules load all others."""
    found = [each for each in of.__subclasses__() if each.__module__.startswith("wandbkeras.")]
    return [each for direct in found for each in (direct, *parts(direct))]


def test_all_parts_are_known() -> None:
    """Those that are public, and those that WandbCallback is made of."""
    public = {getattr(callbacks, name) for name in callbacks.__all__}
    public = {each for each in public if isinstance(each, type) and issubclass(each, Part)}
    assert {*ALONE, *public} <= set(parts())


@pytest.mark.parametrize("part", parts(), ids=lambda part: part.__name__)
def test_every_hook_is_guarded(part: type[Part]) -> None:
    """A hook that is written without the guard is found here, before a training finds it."""
    hooks = {
        name: method
        for name, method in inspect.getmembers(part, inspect.isfunction)
        if method.__module__.startswith("wandbkeras.")
        and (name.startswith("on_") or name in ("_begin_batch", "_log_ended", "_log_batch"))
    }
    assert hooks
    assert [name for name, hook in hooks.items() if not hasattr(hook, "__wrapped__")] == []


class Broken:
    """Data and a function that fail when they are used."""

    def __call__(self, *arguments: Any) -> Any:
        raise RuntimeError("no result")

    def __iter__(self) -> Any:
        raise RuntimeError("no batches")


def test_whatever_fails_the_others_go_on(
    start: Start, stored: Stored, capfd: pytest.CaptureFixture[str]
) -> None:
    """Data that can't be read and functions that fail cost what they are for, each with a line."""
    run = start()
    callback = WandbCallback(
        "loss",
        log_gradients=True,
        training_data=Broken(),
        log_evaluation=True,
        log_evaluation_frequency=1,
        validation_row_processor=Broken(),
        log_weights=True,
        save_model=False,
    )
    history = fit(shared_model(), callback, validation_data=data(4), epochs=3)
    run.finish()
    assert [row.values["loss"] for row in stored(run).rows()] == history["loss"]
    assert all("parameters/out.weights" in row.values for row in stored(run).rows())
    said = [line for line in capfd.readouterr().err.splitlines() if "wandbkeras:" in line]
    assert [line.split()[1] for line in said] == [
        "EvaluationTables.on_train_begin", "GradientHistograms.on_epoch_end"
    ]  # fmt: skip
    assert stored(run).folded.failures >= 1 + 3
