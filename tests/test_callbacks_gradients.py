"""The gradients of training data: what they equal, and that nothing of the training notices.

For any backend: KERAS_BACKEND chooses it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import pytest

import wandbkeras
from tests.gradient_models import BATCH, CASES, Case
from tests.keras_models import data, fit, model
from wandbkeras.callbacks import GradientHistograms
from wandbkeras.errors import UsageError
from wandbkeras.store.reader import StoredRun

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]
Array = np.ndarray[Any, Any]

RATE = 1024.0  # of the reference: large, so that hardly a bit of the gradient is lost in a weight


class Loader:
    """Batches that are iterated anew each time, as those of a DataLoader."""

    def __init__(self, case: Case) -> None:
        self.data = case.data
        self.passes = 0

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        self.passes += 1
        np.random.rand(), random.random()  # a user's augmentation may draw
        for start in range(0, len(keras.tree.flatten(self.data)[0]), BATCH):
            yield keras.tree.map_structure(lambda leaf, i=start: leaf[i : i + BATCH], self.data)


class Watched(GradientHistograms):
    """Keeps the sums, and all that could have changed before and after they were found."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.states: list[tuple[list[Array], list[Array]]] = []

    def gradients(self) -> dict[str, Array]:
        self.values = _values(self.model.variables)
        before = self._state()
        self.found = super().gradients()
        self.states.append((before, self._state()))
        return self.found

    def _state(self) -> list[Array]:
        variables = [*self.model.metrics_variables, *self.model.optimizer.variables]
        generators = [np.array(np.random.get_state()[1]), np.array(random.getstate()[1])]
        return [*_values(self.model.variables), *_values(variables), *generators]


def _values(variables: Any) -> list[Array]:
    return [np.array(variable.numpy()) for variable in variables]


def reference(case: Case, values: list[Array]) -> list[Array]:
    """The sums as Keras itself finds them: by steps of SGD, each from the same values."""
    made = case.model(keras.optimizers.SGD(RATE), **case.reference)
    made.train_on_batch(*next(iter(Loader(case))))  # builds it
    sums: list[Any] = [0] * len(made.trainable_variables)
    for batch in Loader(case):
        for variable, value in zip(made.variables, values, strict=True):
            variable.assign(value)
        before = _values(made.trainable_variables)
        made.train_on_batch(*batch)
        after = _values(made.trainable_variables)
        sums = [s + (b - a) / RATE for s, b, a in zip(sums, before, after, strict=True)]
    return sums


@pytest.mark.parametrize("name", CASES)
def test_the_gradients_are_those_of_keras_own_steps_and_nothing_changes(
    name: str, start: Start, stored: Stored
) -> None:
    """Weights, statistics, seeds, metrics, optimizer and random generators stay what they were."""
    case, run = CASES[name], start()
    loader = Loader(case)
    part = Watched(loader)
    x, y, *weight = case.data
    case.model("adam").fit(
        x, y, BATCH, epochs=2, verbose=0, sample_weight=weight[0] if weight else None,
        callbacks=[part],
    )  # fmt: skip
    assert (part.failures, loader.passes) == (0, 2)
    for before, after in part.states:
        for was, now in zip(before, after, strict=True):
            np.testing.assert_array_equal(was, now)
    for found, expected in zip(part.found.values(), reference(case, part.values), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)

    first, last = (row.values for row in stored(run).rows())
    keys = {f"gradients/{name}.gradient" for name in part.found}
    assert set(first) == set(last) == {"epoch", *keys}
    for name, found in part.found.items():
        assert last[f"gradients/{name}.gradient"] == wandbkeras.Histogram(found).to_value()


def test_a_line_has_the_gradient_that_its_formula_gives(start: Start) -> None:
    """Of a mean squared error: the sum over batches of 2/n Σ w x (x·k + b - y)."""
    start()
    x = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    y, w = x.sum(axis=1, keepdims=True) ** 2, np.linspace(0, 2, 40, dtype=np.float32)
    made = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="line")])
    made.compile("sgd", "mse")
    part = Watched((x, y, w))
    made.fit(x, y, epochs=1, verbose=0, callbacks=[part])
    kernel, bias = (v.numpy() for v in made.trainable_variables)
    error = w[:, None] * (x @ kernel + bias - y)
    ends = [(0, 32), (32, 40)]
    expected = sum(2 * x[a:b].T @ error[a:b] / (b - a) for a, b in ends)
    np.testing.assert_allclose(part.found["line/kernel"], expected, rtol=1e-5)
    expected = sum(2 * error[a:b].sum(axis=0) / (b - a) for a, b in ends)
    np.testing.assert_allclose(part.found["line/bias"], expected, rtol=1e-5)


class _Data(keras.utils.PyDataset):  # type: ignore[misc]
    """Endless batches, each with its own number as target."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    num_batches = None

    def __getitem__(self, index: int) -> Any:
        self.asked.append(index)
        return np.ones((2, 3), np.float32), np.full((2, 1), index, np.float32)


def test_so_many_batches_are_read_as_are_allowed(start: Start) -> None:
    """``gradient_batches`` caps a pass, also over data that never end."""
    start()
    dataset = _Data()
    fit(model(), GradientHistograms(dataset, 3), epochs=2)
    assert dataset.asked == [0, 1, 2, 0, 1, 2]


def test_other_variables_are_followed_when_they_are_trained(start: Start, stored: Stored) -> None:
    """A layer that is frozen has no gradient from then on."""
    run = start()
    layers = [keras.layers.Dense(2, name="a"), keras.layers.Dense(1, name="b")]
    made = keras.Sequential([keras.Input((3,)), *layers])
    made.compile("sgd", "mse")
    part = GradientHistograms(data())
    fit(made, part, epochs=1)
    layers[0].trainable = False
    part.on_epoch_end(1)
    rows = [{key.split("/")[1] for key in row.values if "/" in key} for row in stored(run).rows()]
    assert rows == [{"a", "b"}, {"b"}]


def test_data_that_fail_stop_nothing(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    """The reason is said once, each epoch's failure is counted, training goes on."""
    run = start()
    x, y = data()
    part = GradientHistograms((x[:, :2], y))
    assert len(fit(model(), part, epochs=3)["loss"]) == 3
    assert part.failures == 3
    assert capfd.readouterr().err.count("GradientHistograms.on_epoch_end failed") == 1
    run.finish()


def _generator() -> Iterator[Any]:
    yield data()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((_generator(),), "received generator, which can be read only once; expected"),
        ((data(), 0), "gradient_batches: received 0; expected a number of batches from 1"),
        ((_Data(),), "received an endless dataset; expected gradient_batches too"),
        (("digits.csv",), "training_data: received str; expected"),
        (
            ((np.ones(3), np.ones(4)),),
            r"received shapes \[\(3,\), \(4,\)\]; expected the same number of",
        ),
        (((np.ones(3), 1),), "training_data: received a tuple of ndarray, int; expected"),
        (({},), r"received shapes \[\]; expected the same number of rows"),
    ],
)
def test_data_that_can_not_be_read_again_are_refused(
    arguments: tuple[Any, ...], message: str
) -> None:
    """At once, with what was received and what is expected."""
    with pytest.raises(UsageError, match=message):
        GradientHistograms(*arguments)


def test_a_disabled_run_costs_no_pass(start: Start) -> None:
    """Nothing is computed that nobody records."""
    start(mode="disabled")
    dataset = _Data()
    fit(model(), GradientHistograms(dataset, 1))
    assert dataset.asked == []


def test_the_hooks_take_what_keras_passes(start: Start) -> None:
    """``logs`` may be missing."""
    start()
    part = GradientHistograms(data())
    logs: Mapping[str, Any] | None = None
    part.set_model(model())
    part.on_train_begin(logs)
    part.on_epoch_end(0, logs)
    assert part.failures == 0
