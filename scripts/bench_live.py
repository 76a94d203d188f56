"""The figures of live mode: how late a row is, what it takes, and what a training feels of it."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import wandb
from bench_figures import Figure, ratio
from bench_sync import ROOT, metrics, serving

sys.path.insert(0, str(ROOT))

import wandbkeras
from wandbkeras.store.live import read_live

ROWS_A_SECOND = 20
SECONDS = 60
# Long beside what begins and ends a fit, and several rounds of the uploader.
BATCHES = 3_000
ROUNDS = 6


def latency() -> Iterator[Figure]:
    """From `log()` until the row is read through `wandb.Api`, which asks ten times a second."""
    with tempfile.TemporaryDirectory() as name, serving(Path(name)):
        started = time.perf_counter()
        run = _live(Path(name) / "runs")
        yield Figure("init in live mode", 1_000 * (time.perf_counter() - started), "ms")
        _await_following(run)
        before, began = _cpu_s(run), time.monotonic()
        seconds = _latencies(run)
        used = (_cpu_s(run) - before) / (time.monotonic() - began)
        run.finish()
    what = f"{ROWS_A_SECOND} rows/s for {SECONDS} s, from log() to wandb.Api"
    yield Figure(f"{what}: median", statistics.median(seconds), "s", 5)
    yield Figure(f"{what}: 95th percentile", statistics.quantiles(seconds, n=20)[-1], "s")
    yield Figure("  the uploader and W&B's client meanwhile, of a core", 100 * used, "%")


def fit() -> Iterator[Figure]:
    """An MLP, every batch logged: in live mode beside offline, and wandb's own online mode."""
    os.environ |= {"WANDBKERAS_ENVIRONMENT": "off", "WANDBKERAS_SYSTEM_METRICS": "off"}
    import keras
    from bench_fit import fit_of

    layers = keras.layers
    stack = [keras.Input((32,)), layers.Dense(64, "relu"), layers.Dense(64, "relu")]
    train = fit_of([*stack, layers.Dense(1)], BATCHES)
    with tempfile.TemporaryDirectory() as name, serving(Path(name)):
        store = Path(name) / "runs"
        arms: dict[str, Callable[[], float]] = {
            "offline": lambda: _fit(train, wandbkeras.init(project="bench", dir=store)),
            "offline again": lambda: _fit(train, wandbkeras.init(project="bench", dir=store)),
            "live": lambda: _fit(train, _live(store)),
            "wandb online": lambda: _fit_online(train, Path(name)),
        }
        spent: dict[str, list[float]] = {arm: [] for arm in arms}
        for _ in range(ROUNDS + 1):
            for arm, call in arms.items():
                spent[arm].append(call())
    spent = {arm: seconds[1:] for arm, seconds in spent.items()}
    for arm, seconds in spent.items():
        yield Figure(f"MLP, {BATCHES:,} batches, {arm}", statistics.median(seconds), "s")
    for arm in (arm for arm in arms if arm != "offline"):
        times = ratio(spent[arm], spent["offline"])
        yield Figure(f"  {arm}: times offline", times, "", 1.03 if arm == "live" else None)


def _live(store: Path) -> wandbkeras.Run:
    return wandbkeras.init(project="bench", entity="loopback", dir=store, mode="live")


def _await_following(run: wandbkeras.Run) -> None:
    """Log a row and wait until it is there: starting W&B's client is no part of what follows."""
    run.log(metrics(0))
    while (state := read_live(Path(run.dir or "") / "sync")) is None or state.phase != "following":
        time.sleep(0.1)


def _latencies(run: wandbkeras.Run) -> list[float]:
    """Log rows, and return how many seconds later each of them was read."""
    logged: dict[int, float] = {}
    seconds: list[float] = []

    def log() -> None:
        for _ in range(ROWS_A_SECOND * SECONDS):
            logged[run.step] = time.monotonic()
            run.log(metrics(run.step))
            time.sleep(1 / ROWS_A_SECOND)

    first = run.step
    logging = threading.Thread(target=log)
    logging.start()
    api = wandb.Api()
    while len(seconds) < ROWS_A_SECOND * SECONDS:
        api.flush()
        found = api.run(f"loopback/bench/{run.id}").scan_history(
            min_step=first + len(seconds), use_cache=False
        )
        steps = [row["_step"] for row in found]
        seconds += [time.monotonic() - logged[step] for step in steps]
        time.sleep(0.1)
    logging.join()
    return seconds


def _cpu_s(run: wandbkeras.Run) -> float:
    """Return the seconds of CPU that the uploader and all that it has started have taken."""
    state = read_live(Path(run.dir or "") / "sync")
    assert state is not None
    uploader = psutil.Process(state.process["pid"])
    total = 0.0
    for process in (uploader, *uploader.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _fit(train: Callable[..., Any], run: wandbkeras.Run) -> float:
    """Return the seconds of a fit that logs each batch into the run, which is finished then."""
    if (Path(run.dir or "") / "sync" / "live.log").exists():
        _await_following(run)
    callback = wandbkeras.WandbCallback("loss", log_batch_frequency=1, save_model=False)
    started = time.perf_counter()
    train(callback)
    seconds = time.perf_counter() - started
    run.finish()
    return seconds


def _fit_online(train: Callable[..., Any], folder: Path) -> float:
    from wandb.integration.keras import WandbMetricsLogger

    settings = wandb.Settings(x_disable_stats=True, console="off")
    with wandb.init(project="bench", mode="online", dir=folder, settings=settings):
        started = time.perf_counter()
        train(WandbMetricsLogger(log_freq="batch"))
        return time.perf_counter() - started
