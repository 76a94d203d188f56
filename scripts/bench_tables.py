"""What a table of many images costs: memory that does not grow with its rows, time and bytes a row.

Each figure comes from a process of its own, because the peak of a process only rises.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from bench_figures import Figure, in_a_process, peak_memory

ROWS = 50_000
_SIDE = 32
_BATCH = 256


def tables() -> Iterator[Figure]:
    """Yield what recording and rendering take."""
    for rows in (ROWS // 10, ROWS):
        peak, seconds, size = in_a_process(__name__, f"report_recording({rows})")
        name = f"a table of {rows:,} images"
        yield Figure(f"{name}: peak memory above the rest", peak / 1e6, "MB", 64)
        yield Figure(f"{name}: recording, an image", seconds * 1e6 / rows, "µs")
        yield Figure(f"{name}: bytes a row", size / rows, "B")
    for rows in (ROWS // 10, ROWS):
        peak, seconds = in_a_process(__name__, f"report_rendering({rows})")
        name = f"rendering it for W&B, {rows:,} images"
        yield Figure(f"{name}: peak memory above the rest", peak / 1e6, "MB", 256)
        yield Figure(f"{name}: a row", seconds * 1e6 / rows, "µs")


def report_recording(rows: int) -> None:
    """Record a table in this process; print the bytes of memory, the seconds, the bytes on disk."""
    with tempfile.TemporaryDirectory() as folder:
        _record(Path(folder) / "warm", _BATCH)
        before, started = peak_memory(), time.perf_counter()
        run = _record(Path(folder) / "runs", rows)
        seconds = time.perf_counter() - started
        size = sum(file.stat().st_size for file in run.rglob("*.parquet"))
        print(peak_memory() - before, seconds, size)


def report_rendering(rows: int) -> None:
    """Render a table in this process; print the bytes of memory and the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        run = _record(Path(folder) / "runs", rows)
        _render(_record(Path(folder) / "warm", _BATCH))
        before, started = peak_memory(), time.perf_counter()
        _render(run)
        seconds = time.perf_counter() - started
        print(peak_memory() - before, seconds)


def _record(store: Path, rows: int) -> Path:
    """Record a run with a table of so many images; return its directory."""
    import wandbkeras

    run = wandbkeras.init(dir=store)
    columns = {"image": wandbkeras.ImageColumn(scale="unit"), "class": int, "score": None}
    table = run.open_table("predictions", columns)
    for start in range(0, rows, _BATCH):
        table.add_batch(_batch(start, min(_BATCH, rows - start)))
    run.log({"predictions": table})
    run.finish()
    assert run.dir is not None
    return Path(run.dir)


def _batch(start: int, count: int) -> dict[str, object]:
    """Return images like photographs: smooth, with noise."""
    random = np.random.default_rng(start)
    smooth = np.linspace(0, 0.8, _SIDE, dtype=np.float32)[None, :, None, None]
    noise = random.random((count, _SIDE, _SIDE, 3), np.float32)
    score = random.random((count, 10), np.float32)
    return {"image": smooth + 0.2 * noise, "class": np.arange(count), "score": score}


def _render(run: Path) -> None:
    """Do what a sync does before it uploads, but for the images, which go to files one by one."""
    from wandbkeras.store.reader import StoredRun
    from wandbkeras.sync.content import Content

    with Content(StoredRun(run, strict=True)) as content:
        content.artifacts  # noqa: B018
