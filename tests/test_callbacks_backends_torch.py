"""What gradients are on Torch alone: its own modules, its loaders, its random numbers."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import torch

import wandbkeras
from tests.exact_gradients import BATCH, BATCHES, data, gradients, model
from wandbkeras.callbacks import GradientHistograms

Start = Callable[..., wandbkeras.Run]
X, Y = data()


def test_a_loader_is_read_again_and_training_draws_the_same(start: Start) -> None:
    """Each pass of a shuffling DataLoader draws from Torch's generator, which is put back."""
    start()
    rows = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    part = GradientHistograms(torch.utils.data.DataLoader(rows, BATCH, shuffle=True))
    made = model("sgd")
    part.set_model(made)
    before = torch.get_rng_state()
    for _ in range(2):
        for name, values in part.gradients().items():
            whole = sum(gradients(batch, X, Y)[name] for batch in range(BATCHES))
            np.testing.assert_array_equal(values, whole)
    assert torch.equal(torch.get_rng_state(), before)


def test_modules_of_torch_stay_what_they_were(start: Start) -> None:
    """Their statistics, which Keras doesn't know, and their mode; their weights have gradients."""
    start()
    norm = torch.nn.BatchNorm1d(16)
    made = keras.Sequential(
        [keras.Input((16,)), keras.layers.TorchModuleWrapper(norm), keras.layers.Dense(8)]
    )
    made.compile("sgd", "mse")
    made.fit(X, Y, BATCH, verbose=0)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    mode = norm.training, made.training
    part = GradientHistograms((X, Y))
    part.set_model(made)
    found = part.gradients()
    assert len(found) == 4
    assert all(np.abs(values).sum() > 0 for values in found.values())
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    assert (norm.training, made.training) == mode
