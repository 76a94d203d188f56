"""Benchmarks: wandbkeras beside its peers, interleaved in one run, each figure with its budget.

Budgets are checked here and not by tests: a machine that does something else makes a test lie.
Without a name all but the long ones run. Exit status 1 if a budget is exceeded.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

# Enough that start-up doesn't show; peers that take longer a row get fewer.
ROWS = 300_000
SLOW_ROWS = 5_000
SCALARS = 10
BATCH = 1_000


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
    names = ", ".join({**BENCHES, **LONG_BENCHES})
    parser.add_argument("what", nargs="*", metavar="WHAT", help=names)
    figures = []
    for name in parser.parse_args().what or BENCHES:
        print(f"\n== {name}", flush=True)
        for figure in {**BENCHES, **LONG_BENCHES}[name]():
            print(figure, flush=True)
            figures.append(figure)
    return int(not all(figure.kept for figure in figures))


def in_a_process(call: str, module: str = "bench") -> list[float]:
    """Return the numbers that a function of a module here prints in a process of its own.

    So imports, threads and memory of one don't count for another. It records nothing of what
    surrounds it, which has figures of its own.
    """
    path = os.pathsep.join(["scripts", os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    env = {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    env |= {"WANDBKERAS_ENVIRONMENT": "off", "WANDBKERAS_SYSTEM_METRICS": "off"}
    env |= {"WANDBKERAS_CONSOLE": "off"}
    code = f"import {module} as b; b.{call}"
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    return [float(number) for number in done.stdout.splitlines()[-1].split()]


def bench_log() -> Iterator[Figure]:
    """The cost of one log() call at the caller, CPU of all threads, bytes of a sealed row."""
    for writer in (list_append, ours, wandb_offline, tensorboard):
        median, p99, cpu, size = in_a_process(f"report_log(b.{writer.__name__})")
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
        log(next(batches(1))[0])  # first calls set things up
        clock, spent, call = time.perf_counter_ns, [], log.log
        cpu, made = time.process_time(), -time.thread_time()
        for batch in batches(rows):
            made += time.thread_time()  # what only this thread has done
            for data in batch:
                start = clock()
                call(data)
                spent.append(clock() - start)
            made -= time.thread_time()
        made += time.thread_time()
        log.close()
        cpu = (time.process_time() - cpu - made) * 1e6 / rows
        size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file()) / rows
    spent.sort()
    median, p99 = statistics.median(spent) / 1000, spent[int(rows * 0.99)] / 1000
    print(median, p99, cpu, size)


def batches(rows: int) -> Iterator[list[dict[str, float]]]:
    """Yield rows like a training's: float32 values that fall and tremble."""
    names = [f"metric_{number}" for number in range(SCALARS)]
    random = np.random.default_rng(1)
    for start in range(0, rows, BATCH):
        steps = np.arange(start, min(start + BATCH, rows))
        level = 2.0 / (1 + steps / 1000)
        values = level[:, None] * (1 + 0.1 * random.normal(size=(len(steps), SCALARS)))
        yield [dict(zip(names, row, strict=True)) for row in values.astype(np.float32).tolist()]


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
    """Reading a million rows of ten scalars into Arrow; what is not asked for is not read."""
    import wandbkeras

    rows = 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        run = record(folder, rows)
        spent, cpu, one = [], [], []
        for _ in range(9):
            start = time.perf_counter(), time.process_time()
            table = wandbkeras.Store(folder).run(run.id).history()
            spent.append(time.perf_counter() - start[0])
            cpu.append(time.process_time() - start[1])
            assert table.num_rows == rows
            begin = time.perf_counter()
            wandbkeras.Store(folder).run(run.id).history(columns=["metric_3"])
            one.append(time.perf_counter() - begin)
        yield Figure(f"reading {rows:,} rows × {SCALARS}", min(spent), "s", 0.08)
        yield Figure("  its CPU, of all threads", min(cpu), "s")
        yield Figure("reading one metric of them", min(one), "s")


def bench_memory() -> Iterator[Figure]:
    """The most memory that a process takes which records a million rows."""
    yield from memory(1_000_000)


def bench_long() -> Iterator[Figure]:
    """The same for ten million rows, and their size: some minutes."""
    yield from memory(10_000_000)


def memory(rows: int) -> Iterator[Figure]:
    peak, size = in_a_process(f"report_memory({rows})")
    yield Figure(f"recording {rows:,} rows: peak of the process", peak, "MB", 300)
    yield Figure("  bytes a row on disk", size, "B", 45)


def report_memory(rows: int) -> None:
    """Record rows in this process and print its peak memory (MB) and the bytes a row."""
    with tempfile.TemporaryDirectory() as folder:
        record(folder, rows)
        size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    print(peak_memory() / 1e6, size / rows)


def peak_memory() -> int:
    """Return the most bytes of memory that this process has had, interpreter and libraries too."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux's other figure, ru_maxrss, is that of the parent, where that has had more.
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts in bytes


def record(folder: str, rows: int) -> Any:
    """Record a run of so many rows and return it."""
    import wandbkeras

    run = wandbkeras.init(project="bench", dir=folder)
    for batch in batches(rows):
        for data in batch:
            run.log(data)
    run.finish()
    return run


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
        program = "from wandbkeras_cli.main import main; main()"
        command = [sys.executable, "-c", program, "ls", folder]
        spent, cpu = [], []
        for _ in range(3):
            start, before = time.perf_counter(), children_cpu()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            spent.append(time.perf_counter() - start)
            cpu.append(children_cpu() - before)
        yield Figure(f"wandbkeras ls of {runs:,} runs", min(spent), "s", 3)
        yield Figure("  its CPU", min(cpu), "s")


def children_cpu() -> float:
    """Return the seconds of CPU that the processes started from here have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def bench_system() -> Iterator[Figure]:
    """What a sample of system metrics costs at the default interval, in a share of a core."""
    (milliseconds,) = in_a_process("report_system()")
    yield Figure("a sample of system metrics: CPU", milliseconds, "ms")
    yield Figure("  one every 15 s, of a core", milliseconds / 15_000 * 100, "%", 0.2)


def report_system() -> None:
    """Print the milliseconds of CPU that recording a sample takes, its way into the run too."""
    import wandbkeras
    from wandbkeras.context.machine import Machine

    samples = 200
    with tempfile.TemporaryDirectory() as folder, wandbkeras.init(dir=folder) as run:
        machine = Machine()
        start = time.process_time()
        for _ in range(samples):
            run.record_system_metrics(machine.sample())
        print((time.process_time() - start) / samples * 1000)


# A training imports Keras, and with it NumPy, before it begins a run.
START = """
import os, sys, time, numpy
name, folder = sys.argv[1:]
os.environ |= {"TRACKIO_DIR": folder, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
arguments = {"project": "bench"} if name == "trackio" else {"project": "bench", "dir": folder}
start = time.perf_counter()
module = __import__(name)
imported, cpu = time.perf_counter(), time.thread_time()
run = module.init(**arguments)
cpu = time.thread_time() - cpu
print((imported - start) * 1e3, (time.perf_counter() - imported) * 1e3, cpu * 1e3, flush=True)
run.finish()
"""


def bench_start() -> Iterator[Figure]:
    """Import and ``init`` as a script has them: each in a new process, the median of several."""
    budgets = {"wandbkeras": (150, 100), "wandb": (None, None), "trackio": (None, None)}
    for name, (import_budget, init_budget) in budgets.items():
        if importlib.util.find_spec(name) is not None:
            imported, began, cpu = map(statistics.median, zip(*starts(name, 9), strict=True))
            yield Figure(f"import {name}", imported, "ms", import_budget)
            yield Figure(f"{name}: init(), what surrounds the run too", began, "ms", init_budget)
            yield Figure("  CPU of the thread that calls it", cpu, "ms")
    environment, console = map(statistics.median, zip(*surroundings(9), strict=True))
    yield Figure("  of init(): the environment", environment, "ms", 50)
    yield Figure("  of init(): the console", console, "ms", 50)


def starts(name: str, rounds: int) -> Iterator[list[float]]:
    """Yield what :data:`START` measures of a package, in milliseconds."""
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-c", START, name, folder]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        yield [float(number) for number in done.stdout.splitlines()[0].split()]


SURROUNDINGS = """
import sys, tempfile, time, numpy, wandbkeras
from wandbkeras.context.switches import Switches
from wandbkeras.recording.surroundings import record_surroundings
with tempfile.TemporaryDirectory() as folder:
    off = {"environment": False, "system_metrics": False, "console": "off"}
    with wandbkeras.init(dir=folder, **off) as run:
        before = time.perf_counter()
        record_surroundings(run, Switches(system_metrics=None, console=None))
        environment = time.perf_counter()
        record_surroundings(run, Switches(environment=False, system_metrics=None))
        console = time.perf_counter()
print((environment - before) * 1e3, (console - environment) * 1e3)
"""


def surroundings(rounds: int) -> Iterator[list[float]]:
    """Yield the milliseconds that ``init`` waits for the environment, and for the console."""
    for _ in range(rounds):
        command = [sys.executable, "-c", SURROUNDINGS]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        yield [float(number) for number in done.stdout.split()[-2:]]


FLOOD = """
import sys, time, numpy, wandbkeras
run = wandbkeras.init(dir=sys.argv[1], console=sys.argv[2])
lines, line = 1_300_000, "the quick brown fox jumps over the lazy dog, and what it says of it"
start, cpu = time.perf_counter(), time.thread_time()
for number in range(lines):
    print(number, line)
cpu = time.thread_time() - cpu
run.finish()
seconds = time.perf_counter() - start
print(seconds, cpu / lines * 1e6, wandbkeras.StoredRun(run.dir).size, file=sys.stderr)
"""


def bench_console() -> Iterator[Figure]:
    """What printing 100 MB costs a program that is captured, to its end, beside one that isn't."""
    for console in ("off", "wrap", "auto"):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-c", FLOOD, folder, console]
            done = subprocess.run(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True
            )
        seconds, cpu, size = map(float, done.stderr.split()[-3:])
        yield Figure(f"console={console}: a printed line, CPU of the program", cpu, "µs")
        yield Figure("  100 MB, until finish() returns", seconds, "s")
        yield Figure("  the run on disk", size / 1e6, "MB", 32)


def bench_evaluation() -> Iterator[Figure]:
    """Evaluation tables: peak memory and time do not grow with the rows, but for the rows' work."""
    for images in (5_000, 50_000):
        peak, seconds, plain, size = in_a_process(f"report_evaluation({images})")
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


def bench_tables() -> Iterator[Figure]:
    """A table of 50,000 images that is written batch by batch, and what a sync makes of it."""
    import bench_tables

    yield from bench_tables.figures()


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


def bench_fit() -> Iterator[Figure]:
    """What logging every batch costs a training, beside wandb offline and TensorBoard."""
    import bench_fit

    yield from bench_fit.batches_logged()


def bench_live() -> Iterator[Figure]:
    """Live mode: how late a row is readable, and a training in it beside one offline."""
    import bench_live

    yield from bench_live.latency()
    yield from bench_live.fit()


def bench_gradients() -> Iterator[Figure]:
    """What following one step an epoch costs a training, beside a second fit that follows none."""
    import bench_fit

    yield from bench_fit.gradients_followed()


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
    """Sync beside wandb's own ways, all of its figures."""
    for part in SYNC:
        yield from bench_of_sync(part)


def bench_of_sync(part: str) -> Iterator[Figure]:
    import bench_sync

    yield from getattr(bench_sync, part)()


SYNC = ("throughput", "many_runs", "nothing_to_do", "watching", "memory", "disk")
BENCHES: dict[str, Callable[[], Iterator[Figure]]] = {
    "log": bench_log,
    "read": bench_read,
    "memory": bench_memory,
    "list": bench_list,
    "start": bench_start,
    "system": bench_system,
    "console": bench_console,
    "evaluation": bench_evaluation,
    "tables": bench_tables,
    "histogram": bench_histogram,
    "fit": bench_fit,
    "gradients": bench_gradients,
    "sync": bench_sync,
    "live": bench_live,
}
# Only by name: what takes minutes, and parts of `sync`.
LONG_BENCHES: dict[str, Callable[[], Iterator[Figure]]] = {
    "long": bench_long,
    **{f"sync-{part.replace('_', '-')}": partial(bench_of_sync, part) for part in SYNC},
}


if __name__ == "__main__":
    sys.exit(main())
