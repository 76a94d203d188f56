"""What recording rows costs and reading them back, beside what others make of the same rows."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from bench_figures import Figure, children_cpu, in_a_process, peak_memory

import wandbkeras

# Enough that start-up doesn't show; peers that take longer a row get fewer.
ROWS = 300_000

SLOW_ROWS = 5_000

SCALARS = 10

BATCH = 1_000


def log() -> Iterator[Figure]:
    """The cost of one log() call at the caller, CPU of all threads, bytes of a sealed row."""
    for writer in (list_append, ours, wandb_offline, tensorboard):
        median, p99, cpu, size = in_a_process(__name__, f"report_log(b.{writer.__name__})")
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


def read() -> Iterator[Figure]:
    """Reading a million rows of ten scalars into Arrow; what is not asked for is not read."""
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


def memory() -> Iterator[Figure]:
    """The most memory that a process takes which records a million rows."""
    yield from _memory(1_000_000)


def long() -> Iterator[Figure]:
    """The same for ten million rows, and their size: some minutes."""
    yield from _memory(10_000_000)


def _memory(rows: int) -> Iterator[Figure]:
    peak, size = in_a_process(__name__, f"report_memory({rows})")
    yield Figure(f"recording {rows:,} rows: peak of the process", peak, "MB", 300)
    yield Figure("  bytes a row on disk", size, "B", 45)


def report_memory(rows: int) -> None:
    """Record rows in this process and print its peak memory (MB) and the bytes a row."""
    with tempfile.TemporaryDirectory() as folder:
        record(folder, rows)
        size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    print(peak_memory() / 1e6, size / rows)


def record(folder: str, rows: int) -> Any:
    """Record a run of so many rows and return it."""
    run = wandbkeras.init(project="bench", dir=folder)
    for batch in batches(rows):
        for data in batch:
            run.log(data)
    run.finish()
    return run


def listing() -> Iterator[Figure]:
    """Opening a store of ten thousand runs and listing it."""
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
