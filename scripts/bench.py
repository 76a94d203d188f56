"""Benchmarks: wandbkeras beside its peers, interleaved in one run, each figure with its budget.

Budgets are checked here and not by tests: a machine that does something else makes a test lie.
Exit status 1 if a budget is exceeded.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Enough that start-up doesn't show; peers that take longer a row get fewer.
ROWS = 300_000
SLOW_ROWS = 5_000
SCALARS = 10


@dataclass(frozen=True)
class Figure:
    """One measured number and, if it has one, the budget that it must keep."""

    name: str
    value: float
    unit: str
    budget: float | None = None

    @property
    def kept(self) -> bool:
        return self.budget is None or self.value <= self.budget

    def __str__(self) -> str:
        budget = "" if self.budget is None else f"  (budget {self.budget:g}"
        verdict = "" if self.budget is None else f", {'kept' if self.kept else 'EXCEEDED'})"
        return f"{self.name:<58} {self.value:>12,.2f} {self.unit}{budget}{verdict}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=", ".join(BENCHES))
    figures = []
    for name in parser.parse_args().what or BENCHES:
        print(f"\n== {name}", flush=True)
        for figure in BENCHES[name]():
            print(figure, flush=True)
            figures.append(figure)
    return int(not all(figure.kept for figure in figures))


def bench_log() -> Iterator[Figure]:
    """The cost of one log() call at the caller, CPU of all threads, bytes of a sealed row."""
    for writer in (list_append, ours, wandb_offline, tensorboard):
        # A process each: imports and threads of one must not slow down another.
        code = f"import scripts.bench as b; b.report_log(b.{writer.__name__})"
        env = {**os.environ, "PYTHONPATH": ".", "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        median, p99, cpu, size = map(float, done.stdout.split()[-4:])
        mine = writer is ours
        name = writer.__name__.replace("_", " ")
        yield Figure(
            f"{name}: log() of {SCALARS} scalars, median", median, "µs", 3 if mine else None
        )
        yield Figure(f"{name}: p99", p99, "µs", 20 if mine else None)
        yield Figure(
            f"{name}: CPU of all threads a row, with close", cpu, "µs", 12 if mine else None
        )
        yield Figure(f"{name}: bytes a row on disk", size, "B", 45 if mine else None)


def report_log(writer: Callable[[Path], Any]) -> None:
    """Measure a writer in this process and print median, p99, CPU a row (µs) and bytes a row."""
    rows = ROWS if writer in (list_append, ours) else SLOW_ROWS
    with tempfile.TemporaryDirectory() as folder, writer(Path(folder)) as log:
        log(metrics(0))  # first calls set things up
        clock, spent = time.perf_counter_ns, []
        cpu = time.process_time()
        made = 0.0
        for row in range(rows):
            begin = time.process_time()
            data = metrics(row)
            made += time.process_time() - begin
            start = clock()
            log(data)
            spent.append(clock() - start)
        log.close()
        cpu = (time.process_time() - cpu - made) * 1e6 / rows
        size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file()) / rows
    spent.sort()
    median, p99 = statistics.median(spent) / 1000, spent[int(rows * 0.99)] / 1000
    print(median, p99, cpu, size)


def metrics(row: int) -> dict[str, float]:
    """Return a row like a training's: float32 values that fall and tremble."""
    level = 2.0 / (1 + row / 1000)
    values = (level * (1 + 0.1 * random.gauss(0, 1)) for _ in range(SCALARS))
    return {f"metric_{i}": struct.unpack("f", struct.pack("f", v))[0] for i, v in enumerate(values)}


class Log:
    """A function to call with a row, and one to call at the end."""

    def __init__(self, log: Callable[[dict[str, float]], Any], close: Callable[[], Any]) -> None:
        self.log = log
        self.close = close

    def __call__(self, data: dict[str, float]) -> None:
        self.log(data)


@contextmanager
def list_append(folder: Path) -> Iterator[Log]:
    rows: list[dict[str, float]] = []
    yield Log(lambda data: rows.append(dict(data)), lambda: None)


@contextmanager
def ours(folder: Path) -> Iterator[Log]:
    import wandbkeras

    run = wandbkeras.init(project="bench", dir=folder)
    yield Log(run.log, run.finish)


@contextmanager
def wandb_offline(folder: Path) -> Iterator[Log]:
    os.environ |= {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
    }
    import wandb

    settings = wandb.Settings(x_disable_stats=True, console="off")
    run = wandb.init(project="bench", dir=folder, settings=settings)
    yield Log(run.log, run.finish)


@contextmanager
def tensorboard(folder: Path) -> Iterator[Log]:
    import tensorflow as tf

    writer = tf.summary.create_file_writer(str(folder))
    step = iter(range(10**9))

    def log(data: dict[str, float]) -> None:
        number = next(step)
        with writer.as_default():
            for key, value in data.items():
                tf.summary.scalar(key, value, step=number)

    yield Log(log, writer.close)


def bench_read() -> Iterator[Figure]:
    """Reading a million rows of ten scalars into Arrow; the writer's peak memory."""
    import wandbkeras

    rows = 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run = wandbkeras.init(project="bench", dir=folder)
        for row in range(rows):
            run.log(metrics(row))
        run.finish()
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        yield Figure(f"writing {rows:,} rows: peak memory above the start", peak, "MiB", 300)
        spent = []
        for _ in range(5):
            start = time.perf_counter()
            table = wandbkeras.Store(folder).run(run.id).history()
            spent.append(time.perf_counter() - start)
            assert table.num_rows == rows
        yield Figure(f"reading {rows:,} rows × {SCALARS}", min(spent), "s", 0.08)


def bench_list() -> Iterator[Figure]:
    """Opening a store of ten thousand runs and listing it."""
    import shutil

    import wandbkeras

    runs = 10_000
    with tempfile.TemporaryDirectory() as folder:
        run = wandbkeras.init(project="bench", dir=folder, id="original")
        run.log({"epoch": 1, "loss": 0.5})
        run.finish()
        assert run.dir is not None
        original = Path(run.dir)
        for number in range(runs - 1):
            shutil.copytree(original, original.with_name(f"{original.name}{number:05d}"))
        start = time.perf_counter()
        program = "from wandbkeras_cli.main import main; main()"
        subprocess.run(
            [sys.executable, "-c", program, "ls", folder], stdout=subprocess.DEVNULL, check=True
        )
        yield Figure(f"wandbkeras ls of {runs:,} runs", time.perf_counter() - start, "s", 3)


def bench_evaluation() -> Iterator[Figure]:
    """Evaluation tables: peak memory and time do not grow with the rows, but for the rows' work."""
    for images in (5_000, 50_000):
        code = f"import scripts.bench as b; b.report_evaluation({images})"
        env = {**os.environ, "PYTHONPATH": ".", "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        peak, seconds, plain, size = map(float, done.stdout.split()[-4:])
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
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder, wandbkeras.init(dir=folder):
        data = ValidationData(Images())
        tables = EvaluationTables(data, [str(i) for i in range(10)])
        start = time.perf_counter()
        model.fit(x, y, verbose=0, callbacks=[data, tables])
        seconds = time.perf_counter() - start
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert not tables.failures
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    print(peak, seconds, plain, size / 1e6)


def bench_histogram() -> Iterator[Figure]:
    """A histogram of ten million floats with its statistics, beside what has counts alone."""
    import importlib.util

    import numpy as np

    import wandbkeras

    values = (np.random.default_rng(0).normal(size=10_000_000) * 0.05).astype(np.float32)
    whole = values.astype(np.float64)
    with tempfile.TemporaryDirectory() as folder:
        arms: dict[str, Callable[[], Any]] = {
            "np.histogram, float32": lambda: np.histogram(values, bins=64),
            "wandbkeras.Histogram, float32": lambda: wandbkeras.Histogram(values),
            "np.histogram, float64": lambda: np.histogram(whole, bins=64),
            "wandbkeras.Histogram, float64": lambda: wandbkeras.Histogram(whole),
        }
        if importlib.util.find_spec("tensorboard") is None:
            print("tf.summary.histogram is left out: tensorboard is not installed")
        else:
            import tensorflow as tf

            writer = tf.summary.create_file_writer(folder)

            def summary() -> None:
                with writer.as_default():
                    tf.summary.histogram("values", values, step=0, buckets=64)

            arms["tf.summary.histogram, float32"] = summary
        spent = interleaved(arms, rounds=9)
    for name, seconds in spent.items():
        yield Figure(name, 1000 * statistics.median(seconds), "ms CPU")
    for kind, budget in (("float32", 0.5), ("float64", None)):  # weights are of single precision
        part = ratio(spent[f"wandbkeras.Histogram, {kind}"], spent[f"np.histogram, {kind}"])
        yield Figure(f"of np.histogram's time, {kind}", part, "", budget)


def bench_gradients() -> Iterator[Figure]:
    """What following one step an epoch costs a training, beside a second fit that follows none."""
    import keras
    import numpy as np

    import wandbkeras
    from wandbkeras.callbacks import StepGradientHistograms

    layers = keras.layers
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
    steps = 50
    for name, stack in (("CNN", convolutions), ("MLP", dense)):
        made = keras.Sequential(stack)
        made.compile("sgd", "mse")
        generator = np.random.default_rng(0)
        x = generator.normal(size=(32 * steps, *made.input_shape[1:])).astype(np.float32)
        y = generator.normal(size=(32 * steps, *made.output_shape[1:])).astype(np.float32)

        def epoch(*callbacks: Any, made: Any = made, x: Any = x, y: Any = y) -> None:
            made.fit(x, y, verbose=0, callbacks=list(callbacks))

        with tempfile.TemporaryDirectory() as folder, wandbkeras.init(dir=folder):
            followed = StepGradientHistograms()
            arms = {"alone": epoch, "again": epoch, "followed": lambda: epoch(followed)}  # noqa: B023
            spent = interleaved(arms, rounds=12)
            assert not followed.failures
        millions = made.count_params() / 1e6
        what = f"{name} of {millions:.2f} M, one of {steps} steps followed"
        for arm, budget in (("again", None), ("followed", 5)):
            more = 100 * (ratio(spent[arm], spent["alone"]) - 1)
            label = "fit again, nothing followed" if arm == "again" else what
            yield Figure(f"{label}: more than fit alone", more, "%", budget)


def interleaved(arms: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return the CPU seconds of each call of each arm, taken in turns; the first round is lost."""
    spent: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds + 1):
        for name, call in arms.items():
            start = time.process_time()
            call()
            spent[name].append(time.process_time() - start)
    return {name: seconds[1:] for name, seconds in spent.items()}


def ratio(one: list[float], other: list[float]) -> float:
    """Return the median ratio of what was measured in the same round."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def bench_sync() -> Iterator[Figure]:
    """Sync beside wandb's own ways: one long run, many small ones, nothing to do."""
    import bench_sync

    yield from bench_sync.throughput()
    yield from bench_sync.many_runs()


def bench_sync_memory() -> Iterator[Figure]:
    """The memory that a run of five million rows takes when it is synced."""
    import bench_sync

    yield from bench_sync.memory()


BENCHES: dict[str, Callable[[], Iterator[Figure]]] = {
    "log": bench_log,
    "read": bench_read,
    "list": bench_list,
    "evaluation": bench_evaluation,
    "histogram": bench_histogram,
    "gradients": bench_gradients,
    "sync": bench_sync,
    "sync-memory": bench_sync_memory,
}


if __name__ == "__main__":
    sys.exit(main())
