"""What is not the rows: importing, beginning a run, system metrics, the console."""

from __future__ import annotations

import compileall
import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from bench_figures import Figure, in_a_process

START = """
import os, sys, time
name, folder, before = sys.argv[1:]
__import__(before)
os.environ |= {"TRACKIO_DIR": folder, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
arguments = {"project": "bench"} if name == "trackio" else {"project": "bench", "dir": folder}
start = time.perf_counter()
module = __import__(name)
imported, cpu = time.perf_counter(), time.thread_time()
run = module.init(**arguments)
cpu = time.thread_time() - cpu
began = time.perf_counter() - imported
print("milliseconds", (imported - start) * 1e3, began * 1e3, cpu * 1e3, flush=True)
run.finish()
"""


def start() -> Iterator[Figure]:
    """Import and ``init`` as a script has them: each in a new process, the median of several."""
    # As pip does when it installs a package: the peers are compiled too.
    compileall.compile_dir("src", quiet=1)
    budgets = {"wandbkeras": (150, 100), "wandb": (None, None), "trackio": (None, None)}
    for name, (import_budget, init_budget) in budgets.items():
        if importlib.util.find_spec(name) is not None:
            imported, began, cpu = map(statistics.median, zip(*starts(name, 9), strict=True))
            yield Figure(f"import {name}", imported, "ms", import_budget)
            yield Figure(f"{name}: init(), what surrounds the run too", began, "ms", init_budget)
            yield Figure("  CPU of the thread that calls it", cpu, "ms")
    bare = statistics.median(a + b for a, b, _ in starts("wandbkeras", 9, before="sys"))
    yield Figure("wandbkeras: import and init() where not even NumPy is loaded", bare, "ms", 100)
    environment, console = map(statistics.median, zip(*surroundings(9), strict=True))
    yield Figure("  of init(): the environment", environment, "ms", 50)
    yield Figure("  of init(): the console", console, "ms", 50)


def starts(name: str, rounds: int, before: str = "numpy") -> Iterator[list[float]]:
    """Yield what :data:`START` measures of a package, in milliseconds.

    A training imports Keras, and with it NumPy, ``before`` it begins a run.
    """
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-c", START, name, folder, before]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        # trackio prints more.
        (line,) = (x for x in done.stdout.splitlines() if x.startswith("milliseconds "))
        yield [float(number) for number in line.split()[1:]]


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


def system() -> Iterator[Figure]:
    """What a sample of system metrics costs at the default interval, in a share of a core."""
    (milliseconds,) = in_a_process(__name__, "report_system()")
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


def console() -> Iterator[Figure]:
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
