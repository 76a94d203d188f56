"""What evaluating a model on many images costs: memory that does not grow with them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench_figures import Figure, in_a_process, peak_memory


def evaluation() -> Iterator[Figure]:
    """Evaluation tables: peak memory and time do not grow with the rows, but for the rows' work."""
    for images in (5_000, 50_000):
        peak, seconds, plain, size = in_a_process(__name__, f"report_evaluation({images})")
        name = f"evaluation of {images:,} images"
        yield Figure(f"{name}: peak memory above training without", peak, "MiB", 80)
        yield Figure(f"{name}: both tables", seconds, "s")
        yield Figure(f"{name}: Keras's own predict", plain, "s")
        yield Figure(f"{name}: on disk", size, "MB")


def report_evaluation(images: int) -> None:
    """Record both tables of a training; print MiB of memory, seconds, predict's, and MB on disk."""
    import keras
    import numpy as np

    import wandbkeras
    from wandbkeras.callbacks import EvaluationTables, ValidationData

    class Images(keras.utils.PyDataset):  # type: ignore[misc]
        """Made when they are asked for: in memory they would hide what is measured."""

        num_batches = images // 100

        def __getitem__(self, index: int) -> Any:
            random_numbers = np.random.default_rng(index)
            x = random_numbers.random((100, 28, 28, 1), dtype=np.float32)
            return x, random_numbers.integers(0, 10, (100, 1))

    photo = keras.Input((28, 28, 1))
    hidden = keras.layers.Flatten()(keras.layers.Conv2D(8, 3, activation="relu")(photo))
    model = keras.Model(photo, keras.layers.Dense(10, activation="softmax")(hidden))
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = Images()[0]
    model.fit(x, y, verbose=0)
    start = time.perf_counter()
    for index in range(Images.num_batches):
        model.predict_on_batch(Images()[index][0])
    plain = time.perf_counter() - start
    before = peak_memory()
    with tempfile.TemporaryDirectory() as folder, wandbkeras.init(dir=folder):
        data = ValidationData(Images())
        tables = EvaluationTables(data, [str(i) for i in range(10)])
        start = time.perf_counter()
        model.fit(x, y, verbose=0, callbacks=[data, tables])
        seconds = time.perf_counter() - start
        peak = (peak_memory() - before) / (1 << 20)
        assert not tables.failures
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    print(peak, seconds, plain, size / 1e6)
