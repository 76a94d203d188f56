"""The figures of sync, beside wandb's own ways to the same loopback server, in one run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wandb
from bench_figures import Figure, children_cpu, peak_memory

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import wandbkeras  # noqa: E402
from tests.server.process import LoopbackServer  # noqa: E402
from wandbkeras.store.directory import Store  # noqa: E402
from wandbkeras.store.reader import StoredRun  # noqa: E402
from wandbkeras.sync.content import Content  # noqa: E402
from wandbkeras.sync.destination import Destination  # noqa: E402
from wandbkeras.sync.engine import sync  # noqa: E402
from wandbkeras.sync.options import Options, Result  # noqa: E402
from wandbkeras.sync.plan import Plan  # noqa: E402
from wandbkeras.sync.render import render  # noqa: E402
from wandbkeras.sync.watch import Pace, Watcher  # noqa: E402

ROWS = 100_000
SMALL_RUNS = 500
UNCHANGED_RUNS = 5_000
WATCHED_RUNS, LOOKS = 1_000, 20
MANY_ROWS = 5_000_000
CHECKPOINT_BYTES = 2_000_000_000
TIMEOUT_S = 900.0
_NOISE = os.urandom(1_000_000)


def throughput() -> Iterator[Figure]:
    """Rows a second of one long run: ours, replaying by `run.log`, `wandb sync` of its own file."""
    with tempfile.TemporaryDirectory() as name, serving(Path(name)):
        folder = Path(name)
        path = _record(folder / "runs", ROWS)
        replayed = _timed(lambda: _wandb(folder / "online", "online"))
        yield Figure("replaying by wandb.init and run.log", ROWS / replayed, "rows/s")
        _wandb(folder / "offline", "offline")
        (offline,) = (folder / "offline" / "wandb").glob("offline-run-*")
        synced = _timed(lambda: _run("-m", "wandb", "sync", str(offline)))
        yield Figure("wandb sync of wandb's own file", ROWS / synced, "rows/s")
        content = Content(StoredRun(path, strict=True))
        rendering = _timed(lambda: _render(content, folder / "rendered"))
        yield Figure("wandbkeras: rendering", rendering * 1e6 / ROWS, "µs a row", 15)
        counted = _timed(lambda: _sync([path], level="counts", project="counts"))
        yield Figure("wandbkeras sync --verify counts", ROWS / counted, "rows/s")
        full = _timed(lambda: _sync([path], level="full", project="full"))
        yield Figure("wandbkeras sync --verify full", ROWS / full, "rows/s")
        yield Figure("replaying ÷ ours, time of render and upload", counted / replayed, "", 0.5)
        yield Figure("wandb sync ÷ ours, time of render and upload", counted / synced, "", 1)
        yield Figure("reading back in full adds", full / counted - 1, "", 0.5)


def many_runs() -> Iterator[Figure]:
    """Many small runs at once."""
    with tempfile.TemporaryDirectory() as name, serving(Path(name)):
        paths = [_record(Path(name) / "runs", 20) for _ in range(SMALL_RUNS)]
        spent = _timed(lambda: _sync(paths))
        yield Figure(f"{SMALL_RUNS} runs of 20 rows", spent / SMALL_RUNS, "s a run", 0.3)


def nothing_to_do() -> Iterator[Figure]:
    """A store in which everything has arrived."""
    with tempfile.TemporaryDirectory() as name, serving(Path(name)) as server:
        folder = Path(name)
        path = _record(folder / "runs", 20)
        _sync([path])
        for number in range(UNCHANGED_RUNS):
            shutil.copytree(path, folder / "unchanged" / f"{path.name}{number:05d}")
        asked, before = len(server.requests()), children_cpu()
        spent = _timed(lambda: _command("sync", folder / "unchanged"))
        what = f"wandbkeras sync of {UNCHANGED_RUNS} runs, nothing to do"
        yield Figure(what, spent, "s", 5)
        yield Figure(f"{what}, CPU", children_cpu() - before, "s", 5)
        yield Figure("requests for them", len(server.requests()) - asked, "", 0)


def watching() -> Iterator[Figure]:
    """What a watcher takes when nothing happens to the runs that it watches."""
    with tempfile.TemporaryDirectory() as name, serving(Path(name)) as server:
        folder = Path(name)
        path = _record(folder / "runs", 20)
        _sync([path])
        for number in range(1, WATCHED_RUNS):
            shutil.copytree(path, folder / "runs" / f"{path.name}{number:05d}")
        asked, looks, stopping = len(server.requests()), [], threading.Event()

        def find() -> list[Path]:
            looks.append(time.process_time())
            if len(looks) > LOOKS:
                stopping.set()
            return Store(folder / "runs").paths()

        watcher = Watcher(find, [folder], Options(), Pace(interval_s=0.01), stopping=stopping)
        assert list(watcher.events()) == []
        spent = (looks[-1] - looks[1]) / (len(looks) - 2)
        of_a_core = 100 * spent / Pace().interval_s
        yield Figure(f"watching {WATCHED_RUNS} finished runs, a look", spent * 1e3, "ms of CPU")
        yield Figure("watching them, at the default interval", of_a_core, "% of a core", 1)
        yield Figure("requests for them", len(server.requests()) - asked, "", 0)


def memory() -> Iterator[Figure]:
    """The peak memory of a sync of a very long run, all of it rendered."""
    with tempfile.TemporaryDirectory() as name:
        path = _record(Path(name) / "runs", MANY_ROWS)
        code = (
            "import sys; sys.path[:0] = ['scripts', '.']; import bench_sync as b;"
            "from pathlib import Path; b.report_memory(Path(sys.argv[1]), Path(sys.argv[2]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, path, Path(name) / "rendered"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        yield Figure(f"rendering {MANY_ROWS:,} rows: peak memory", float(done.stdout), "MB", 500)


def disk() -> Iterator[Figure]:
    """The disk that a sync takes for a run with a large checkpoint, beside that of the run."""
    with tempfile.TemporaryDirectory() as name, serving(Path(name)):
        folder = Path(name)
        model = folder / "model.bin"
        with model.open("wb") as file:
            for _ in range(CHECKPOINT_BYTES // len(_NOISE)):
                file.write(_NOISE)
        run = wandbkeras.init(project="bench", dir=folder / "runs")
        run.log_artifact(model, name="model", type="model")
        run.finish()
        model.unlink()
        (folder / "temporary").mkdir()
        # The server keeps its own copy: only what the client and we write beside is counted.
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "temporary")
        try:
            with _most_bytes(folder / "temporary", folder / "home") as most:
                _sync([Path(run.dir or "")])
        finally:
            del os.environ["TMPDIR"]
            tempfile.tempdir = None
        yield Figure(f"disk beside a {CHECKPOINT_BYTES / 1e9:g} GB checkpoint", most[0], "MB", 10)


@contextmanager
def _most_bytes(*folders: Path) -> Iterator[list[float]]:
    """Find out the most that directories hold at a time, in MB, looking twenty times a second."""
    most, stop = [0.0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            done = subprocess.run(["du", "-scB1", *folders], capture_output=True, text=True)
            most[0] = max(most[0], int(done.stdout.splitlines()[-1].split()[0]) / 1e6)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        stop.set()
        thread.join()


def metrics(step: int) -> dict[str, float]:
    """Return ten scalars."""
    return {f"metric_{number}": number + 1 / (step + 1) for number in range(10)}


def report_memory(path: Path, directory: Path) -> None:
    """Render the run and print this process's peak memory in MB."""
    _render(Content(StoredRun(path, strict=True)), directory)
    print(peak_memory() / 1e6)


def serving(folder: Path) -> LoopbackServer:
    """A server that this process and its children are clients of."""
    server = LoopbackServer(folder / "server").start()
    (folder / "home").mkdir()
    os.environ |= server.environ(folder / "home")
    wandb.teardown()  # forgets the server of the figures before
    return server


def _record(store: Path, rows: int) -> Path:
    run = wandbkeras.init(project="bench", dir=store)
    for row in range(rows):
        run.log(metrics(row))
    run.finish()
    return Path(run.dir or "")


def _wandb(folder: Path, mode: str) -> None:
    """Log as many rows with wandb itself, in a process of its own."""
    folder.mkdir()
    code = (
        "import sys; sys.path[:0] = ['scripts', '.']; import wandb; from bench_sync import metrics;"
        f"run = wandb.init(project='bench', mode='{mode}', dir='{folder}',"
        " settings=wandb.Settings(x_disable_stats=True, console='off'));"
        f"[run.log(metrics(row)) for row in range({ROWS})]; run.finish()"
    )
    _run("-c", code)


def _render(content: Content, directory: Path) -> None:
    directory.mkdir()
    destination = Destination("http://127.0.0.1", None, "bench", content.info.id)
    render(content, Plan(destination, "loopback"), directory, "bench")


def _sync(paths: list[Path], **options: Any) -> list[Result]:
    chosen = Options(**{"timeout_s": TIMEOUT_S, "settle_s": 0.0, **options})
    results = list(sync(paths, chosen))
    errors = [str(result.error) for result in results if result.error]
    assert errors == [], errors
    return results


def _command(*arguments: str | Path) -> None:
    _run("-c", "from wandbkeras_cli.main import main; main()", *map(str, arguments))


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)


def _timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
