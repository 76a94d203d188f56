"""What recording costs a training: the same fits with and without a callback, in turns."""

from __future__ import annotations

import importlib.util
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench_figures import Figure, interleaved, ratio

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np

import wandbkeras
from wandbkeras.callbacks import StepGradientHistograms

BATCH_SIZE = 32
# A fit whose batches are logged: what begins and ends a fit hardly shows, and the next one comes
# before the machine does something else.
BATCHES = 500
ROUNDS = 30
# A fit whose first step is followed.
STEPS = 50

layers = keras.layers


def batches_logged() -> Iterator[Figure]:
    """A small MLP, every batch logged: ours, wandb's callback offline, TensorBoard's."""
    stack = [keras.Input((32,)), layers.Dense(64, "relu"), layers.Dense(64, "relu")]
    fit = fit_of([*stack, layers.Dense(1)], BATCHES)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        ours = opened.enter_context(wandbkeras.init(project="bench", dir=folder))
        callback = wandbkeras.WandbCallback("loss", log_batch_frequency=1, save_model=False)
        arms = {
            "alone": fit,
            "alone again": fit,
            "wandbkeras": lambda: fit(callback),
            "wandb offline": _with_wandb(fit, folder, opened),
        }
        if importlib.util.find_spec("tensorboard") is None:
            print("TensorBoard is left out: it is not installed")
        else:
            arms["TensorBoard"] = lambda: fit(_tensorboard(folder))
        spent = interleaved(arms, rounds=ROUNDS)
        assert ours.step >= ROUNDS * BATCHES
    for arm, seconds in spent.items():
        median = 1_000 * statistics.median(seconds)
        yield Figure(f"MLP, {BATCHES:,} batches, {arm}", median, "ms CPU")
    for arm in (name for name in spent if name != "alone"):
        budget = 3 if arm == "wandbkeras" else None
        yield _more(f"{arm}: more than alone", spent[arm], spent["alone"], budget)


def gradients_followed() -> Iterator[Figure]:
    """A CNN and an MLP of ten million parameters, the gradients of one step of a fit recorded."""
    convolutions = [
        keras.Input((28, 28, 1)),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(24, activation="relu"),
        layers.Dense(10),
    ]
    dense = [
        keras.Input((1024,)),
        *(layers.Dense(2300, "relu") for _ in range(2)),
        layers.Dense(980),
    ]
    for name, stack in (("CNN", convolutions), ("MLP", dense)):
        fit = fit_of(stack, STEPS)
        with tempfile.TemporaryDirectory() as folder, wandbkeras.init(dir=folder):
            followed = StepGradientHistograms()
            arms = {"alone": fit, "again": fit, "followed": lambda: fit(followed)}  # noqa: B023
            spent = interleaved(arms, rounds=12)
            assert not followed.failures
        millions = keras.Sequential(stack).count_params() / 1e6
        what = f"{name} of {millions:.2f} M, one of {STEPS} steps followed"
        yield _more(f"{name}: fit again, more than fit alone", spent["again"], spent["alone"])
        yield _more(f"{what}: more", spent["followed"], spent["alone"], 5)


def fit_of(stack: list[Any], batches: int) -> Callable[..., Any]:
    """Return a function that trains the layers for an epoch of so many batches, with callbacks."""
    made = keras.Sequential(stack)
    made.compile("sgd", "mse", metrics=["mae"])
    generator = np.random.default_rng(0)
    rows = BATCH_SIZE * batches
    x = generator.normal(size=(rows, *made.input_shape[1:])).astype(np.float32)
    y = generator.normal(size=(rows, *made.output_shape[1:])).astype(np.float32)
    return lambda *callbacks: made.fit(x, y, verbose=0, callbacks=list(callbacks))


def _with_wandb(fit: Callable[..., Any], folder: str, opened: ExitStack) -> Callable[[], Any]:
    """Return a fit with wandb's callback, into one offline run that ends with ``opened``."""
    os.environ |= {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
    }
    import wandb
    from wandb.integration.keras import WandbMetricsLogger

    settings = wandb.Settings(x_disable_stats=True, console="off")
    opened.enter_context(wandb.init(project="bench", dir=folder, settings=settings))
    callback = WandbMetricsLogger(log_freq="batch")
    return lambda: fit(callback)


def _tensorboard(folder: str) -> keras.callbacks.Callback:
    """Return TensorBoard's callback, which does nothing but log the metrics of each batch."""
    return keras.callbacks.TensorBoard(
        str(Path(folder) / "tensorboard"), write_graph=False, update_freq="batch", profile_batch=0
    )


def _more(
    name: str, seconds: list[float], alone: list[float], budget: float | None = None
) -> Figure:
    """Return by how much a fit takes longer than one of the same round, and how that spreads."""
    parts = [100 * (one / other - 1) for one, other in zip(seconds, alone, strict=True)]
    low, _, high = statistics.quantiles(parts, n=4)
    unit = f"% (half of them {low:+.1f} to {high:+.1f})"
    return Figure(name, 100 * (ratio(seconds, alone) - 1), unit, budget)
