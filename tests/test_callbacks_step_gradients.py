"""The gradients of the training's own steps: exactly those that the optimizer updates with.

For any backend: KERAS_BACKEND chooses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import wandbkeras
from tests import keras_models
from tests.exact_gradients import BATCH, BATCHES, data, expected, gradients, model
from wandbkeras.callbacks import StepGradientHistograms
from wandbkeras.callbacks.backends import backend_module
from wandbkeras.callbacks.gradient_tap import EXACT, RAW
from wandbkeras.errors import UsageError
from wandbkeras.store.reader import StoredRun

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]
Array = np.ndarray[Any, Any]
SGD = keras.optimizers.SGD

ON = keras.backend.backend()
X, Y = data()
EACH = [gradients(batch, X, Y) for batch in range(BATCHES)]


def mean(*updates: dict[str, Array]) -> dict[str, Array]:
    return {name: sum(u[name] for u in updates) / np.float32(len(updates)) for name in EACH[0]}


def clipped(update: dict[str, Array], limit: float) -> dict[str, Array]:
    return {name: np.clip(values, -limit, limit) for name, values in update.items()}


def train(
    made: keras.Model, part: StepGradientHistograms, *others: Any, y: Array = Y, epochs: int = 2
) -> None:
    made.fit(X, y, BATCH, epochs, verbose=0, shuffle=False, callbacks=[*others, part])
    assert part.failures == 0


def rows_of(run: StoredRun) -> list[dict[str, Any]]:
    """The rows, their epoch left out."""
    return [{k: v for k, v in row.values.items() if k != "epoch"} for row in run.rows()]


def check(rows: Sequence[Mapping[str, Any]], *updates: Sequence[dict[str, Array]]) -> None:
    """Each row has exactly the updates of its epoch."""
    assert len(rows) == len(updates)
    for row, of_epoch in zip(rows, updates, strict=True):
        assert set(row) == set(expected(of_epoch))
        for key, value in expected(of_epoch).items():
            found, wanted = row[key]["stats"], value["stats"]
            assert row[key] == {**value, "stats": found}
            for name in ("mean", "std"):
                assert found.pop(name, None) == pytest.approx(
                    wanted.pop(name, None), rel=1e-6, abs=1e-7
                )
            assert found == wanted


CASES: dict[str, tuple[Callable[[], Any], dict[str, Any], int | None, list[Any]]] = {
    "the first step of each epoch": (SGD, {}, None, [EACH[0]]),
    "every third step": (SGD, {}, 3, [EACH[0], EACH[3], EACH[6]]),
    "every step": (SGD, {}, 1, EACH),
    "eagerly": (SGD, {"run_eagerly": True}, 4, [EACH[0], EACH[4]]),
    "accumulated": (lambda: SGD(gradient_accumulation_steps=2), {}, None, [mean(*EACH[:2])]),
    "accumulated over the epoch": (
        lambda: SGD(gradient_accumulation_steps=4), {}, 1, [mean(*EACH[:4]), mean(*EACH[4:])],
    ),
    "clipped": (lambda: SGD(clipvalue=0.25), {}, None, [clipped(EACH[0], 0.25)]),
    "scaled": (lambda: keras.optimizers.LossScaleOptimizer(SGD()), {}, None, [EACH[0]]),
    "scaled by a constant": (lambda: SGD(loss_scale_factor=16.0), {}, None, [EACH[0]]),
}  # fmt: skip
if hasattr(keras.optimizers, "MultiOptimizer"):  # of later versions

    def several() -> Any:
        """An optimizer that clips for the kernel and one that doesn't for the bias."""
        clips = {".*kernel": SGD(clipvalue=0.25)}
        return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(SGD(), clips))

    kernel, bias = clipped(EACH[0], 0.25)["line/kernel"], EACH[0]["line/bias"]
    CASES["several in one"] = (several, {}, None, [{"line/kernel": kernel, "line/bias": bias}])
if ON != "torch":  # where it would compile for minutes, and an execution has one step
    CASES |= {
        "jit_compile": (SGD, {"jit_compile": True}, 4, [EACH[0], EACH[4]]),
        "an execution of several steps": (SGD, {"steps_per_execution": 4}, None, EACH[:4]),
        "several steps, compiled": (
            SGD, {"steps_per_execution": 3, "jit_compile": True}, 7, [*EACH[:3], *EACH[6:]],
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_updates_are_counted_exactly(name: str, start: Start, stored: Stored) -> None:
    """Counts, extremes and zeros are those of NumPy's own gradients, to the last bit."""
    optimizer, options, frequency, updates = CASES[name]
    run = start()
    train(model(optimizer(), **options), StepGradientHistograms(frequency))
    check(rows_of(stored(run)), updates, updates)
    assert [row.values["epoch"] for row in stored(run).rows()] == [0, 1]


def test_a_frequency_that_falls_into_an_execution_takes_all_its_steps() -> None:
    """Of executions of 3 steps, those with the steps 0, 5, 10, … are counted."""
    part = StepGradientHistograms(5)
    part._steps_per_execution = 3
    assert [batch for batch in range(0, 18, 3) if part._is_sampled(batch)] == [0, 3, 9, 15]


def test_numbers_that_are_not_finite_are_counted_exactly(start: Start, stored: Stored) -> None:
    """NaN, infinities and zeros of a gradient are in its statistics, and nothing fails."""
    run = start()
    y = Y.copy()
    y[0, :3] = np.nan, np.inf, -np.inf
    train(model(SGD()), StepGradientHistograms(), y=y, epochs=1)
    update = gradients(0, X, y)
    check(rows_of(stored(run)), [update])
    stats = rows_of(stored(run))[0]["gradients/line/bias.gradient"]["stats"]
    assert (stats["nan"], stats["posinf"], stats["neginf"]) == (1, 1, 1)


class Iterations(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps how many updates there were before each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.updates: list[int] = []

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.updates.append(int(self.model.optimizer.inner_optimizer.iterations))


def test_a_step_that_is_skipped_is_followed_by_the_next(start: Start, stored: Stored) -> None:
    """Where a LossScaleOptimizer finds its scale, the first update that it makes is counted."""
    run, iterations = start(), Iterations()
    optimizer = keras.optimizers.LossScaleOptimizer(SGD(), initial_scale=2.0**127)
    train(model(optimizer), StepGradientHistograms(), iterations, y=8 * Y, epochs=1)
    first = iterations.updates.count(0) - 1
    assert first > 0
    check(rows_of(stored(run)), [gradients(first, X, 8 * Y)])


def test_an_accumulation_may_end_in_the_next_epoch(
    start: Start, stored: Stored, capfd: pytest.CaptureFixture[str]
) -> None:
    """An epoch without an update says so; the next has the one that it began."""
    run, part = start(), StepGradientHistograms()
    made = model(SGD(gradient_accumulation_steps=16))
    made.fit(X, Y, BATCH, epochs=2, verbose=0, shuffle=False, callbacks=[part])
    check(rows_of(stored(run)), [mean(*EACH, *EACH)])
    assert part.failures == 1
    assert capfd.readouterr().err.count("made no update in the steps that were followed") == 1


def _trained(*callbacks: Any) -> list[Array]:
    keras.utils.set_random_seed(5)
    layers = [
        keras.layers.Dense(16, "relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(8),
    ]
    made = keras.Sequential([keras.Input((16,)), *layers])
    made.compile(keras.optimizers.Adam(0.01), "mse")
    made.fit(X, Y, BATCH, epochs=2, verbose=0, callbacks=list(callbacks))
    return [np.array(v.numpy()) for v in (*made.variables, *made.optimizer.variables)]


def test_the_weights_become_what_they_would_have_become(start: Start) -> None:
    """To the last bit: with batch normalisation, dropout, shuffling and Adam."""
    start()
    part = StepGradientHistograms(2)
    for followed, alone in zip(_trained(part), _trained(), strict=True):
        np.testing.assert_array_equal(followed, alone)
    assert part.failures == 0


def test_nothing_is_left_on_the_model(start: Start, tmp_path: Path) -> None:
    """Neither on the optimizer nor as train function; a saved model is loaded and trains on."""
    start()
    made = keras_models.model(optimizer=keras.optimizers.Adam())
    own: list[Any] = []
    seen = keras.callbacks.LambdaCallback(on_train_begin=lambda _: own.append(made.train_function))
    keras_models.fit(made, seen, StepGradientHistograms(1))
    assert made.train_function is own[0]
    assert not {EXACT, RAW} & set(vars(made.optimizer))
    made.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert keras_models.fit(loaded)["loss"] == pytest.approx(keras_models.fit(made)["loss"])


def test_a_second_fit_is_followed_too(start: Start, stored: Stored) -> None:
    """Also where the model was compiled anew in between."""
    run, part, made = start(), StepGradientHistograms(), model(SGD())
    train(made, part, epochs=1)
    train(made, part, epochs=1)
    made.compile(SGD(clipvalue=0.25), made.loss)
    train(made, part, epochs=1)
    check(rows_of(stored(run)), [EACH[0]], [EACH[0]], [clipped(EACH[0], 0.25)])


class Interrupts(keras.callbacks.Callback):  # type: ignore[misc]
    """Stops a training between the hook that follows a step and that step."""

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        raise KeyboardInterrupt


def test_an_interrupted_step_leaves_a_model_that_trains(start: Start, stored: Stored) -> None:
    """The next training has its own train function again, and is followed."""
    run, part, made = start(), StepGradientHistograms(), model(SGD())
    with pytest.raises(KeyboardInterrupt):
        made.fit(X, Y, BATCH, verbose=0, shuffle=False, callbacks=[part, Interrupts()])
    train(made, part, epochs=1)
    check(rows_of(stored(run)), [EACH[0]])
    assert "GradientTap" not in made.train_function.__qualname__


class Applies(SGD):  # type: ignore[misc]
    """An optimizer that does all in ``apply``, and has none of what Keras calls there."""

    _backend_update_step = None

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        for gradient, variable in zip(
            grads, trainable_variables or self._trainable_variables, strict=True
        ):
            variable.assign(variable - self.learning_rate * gradient)
        self._iterations.assign_add(1)


def test_without_the_private_method_the_public_one_is_followed(
    start: Start, stored: Stored, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line says what the gradients are then."""
    run = start()
    train(model(Applies()), StepGradientHistograms())
    check(rows_of(stored(run)), [EACH[0]], [EACH[0]])
    lines = [line for line in capfd.readouterr().err.splitlines() if "wandbkeras" in line]
    assert len(lines) == 1
    assert "this Applies has no _backend_update_step: its gradients are recorded as" in lines[0]


class Unseen(Applies):
    """An optimizer that has the method and doesn't call it."""

    def _backend_update_step(self, *arguments: Any) -> None:
        raise AssertionError("never called")


def test_an_optimizer_that_can_not_be_followed_is_said(
    start: Start, stored: Stored, capfd: pytest.CaptureFixture[str]
) -> None:
    """Training goes on, each epoch is counted, one line names what to pass."""
    run, part = start(), StepGradientHistograms()
    model(Unseen()).fit(X, Y, BATCH, epochs=2, verbose=0, callbacks=[part])
    assert (rows_of(stored(run)), part.failures) == ([], 2)
    assert capfd.readouterr().err.count("pass training_data=") == 1


def test_a_step_whose_gradients_can_not_be_counted_goes_on(
    start: Start, stored: Stored, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The weights become what they would have become; the end of the epoch says what failed."""

    def fail(*arguments: Any) -> None:
        raise RuntimeError("no place to count in")

    monkeypatch.setattr(backend_module().UpdateCounter, "record", fail)
    run, part, followed, alone = start(), StepGradientHistograms(), model(SGD()), model(SGD())
    for made, parts in ((followed, [part]), (alone, [])):
        made.fit(X, Y, BATCH, epochs=2, verbose=0, shuffle=False, callbacks=parts)
    for one, other in zip(followed.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (rows_of(stored(run)), part.failures) == ([], 2)
    assert capfd.readouterr().err.count("RuntimeError: no place to count in") == 1


@pytest.mark.parametrize("frequency", [0, -1, 1.5, "4", True])
def test_a_frequency_is_a_number_of_steps(frequency: Any) -> None:
    """Anything else is refused when the callback is made."""
    with pytest.raises(UsageError, match=r"gradient_frequency: received .*; expected a number of"):
        StepGradientHistograms(frequency)


def test_a_disabled_run_is_not_followed(start: Start) -> None:
    """Nothing is compiled a second time that nobody records."""
    start(mode="disabled")
    part = StepGradientHistograms()
    train(model(SGD()), part)
    assert part._tap is None
