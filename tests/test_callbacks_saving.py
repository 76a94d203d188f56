"""Writing a model: durably, as large as was said, and with nothing of the model changed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import keras
import pytest

from tests.keras_models import fit, model
from wandbkeras.callbacks.saving import how_to_load, saved_bytes, write_durably, write_model


def test_killed_while_writing_the_file_before_is_there(tmp_path: Path) -> None:
    """SIGKILL in the middle leaves the old bytes under the name, and the torn ones hidden."""
    path = tmp_path / "m.keras"
    write_durably(path, 3, lambda file: file.write_bytes(b"old") and None)

    def die(file: Path) -> None:
        file.write_bytes(b"ne")
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        write_durably(path, 3, die)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir() if found != path] == [
        f".{child}.tmp-m.keras"
    ]


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    """Neither a file nor a hidden one; the folders are made."""
    path = tmp_path / "sub" / "m.keras"

    def fail(file: Path) -> None:
        file.write_bytes(b"ne")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write_durably(path, 3, fail)
    assert list(path.parent.iterdir()) == []


def test_what_has_no_room_is_not_begun(tmp_path: Path) -> None:
    """HDF5 would crash the process at its end."""
    with pytest.raises(OSError, match="No space left on device"):
        write_durably(tmp_path / "m.keras", 2**62, lambda file: file.write_bytes(b"ne") and None)
    assert list(tmp_path.iterdir()) == []


def test_the_optimizer_comes_back_if_saving_fails(tmp_path: Path) -> None:
    """The model goes on training with it."""
    made = model()
    optimizer = made.optimizer
    with pytest.raises((OSError, ValueError)):
        write_model(made, tmp_path / "no" / "m.txt", weights_only=False, optimizer=False)
    assert made.optimizer is optimizer


@pytest.mark.parametrize("weights_only", [False, True])
@pytest.mark.parametrize("optimizer", [False, True])
def test_a_file_is_no_larger_than_was_said(
    tmp_path: Path, weights_only: bool, optimizer: bool
) -> None:
    """And nearly as large, so that a disk with room is not taken for full."""
    made = keras.Sequential([keras.Input((300,)), keras.layers.Dense(300)])
    made.compile("adam", "mse", run_eagerly=True)
    made.optimizer.build(made.trainable_variables)
    path = tmp_path / ("m.weights.h5" if weights_only else "m.keras")
    write_model(made, path, weights_only=weights_only, optimizer=optimizer)
    said = saved_bytes(made, optimizer=optimizer)
    assert 0.9 * said < path.stat().st_size <= said


def test_a_model_without_an_optimizer_is_saved_without(tmp_path: Path) -> None:
    """One that was never compiled, and its metadata says so."""
    made = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    write_model(made, tmp_path / "m.keras", weights_only=False, optimizer=False)
    assert how_to_load(made, weights_only=False, optimizer=True)["optimizer"] is False
    loaded = keras.models.load_model(tmp_path / "m.keras")
    loaded.compile("sgd", "mse", run_eagerly=True)
    fit(loaded, epochs=1)
