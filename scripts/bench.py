"""Benchmarks: wandbkeras beside its peers, interleaved in one run, each figure with its budget.

Budgets are checked here and not by tests: a machine that does something else makes a test lie.
Without a name all but the long ones run. Exit status 1 if a budget is exceeded.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator

from bench_figures import Figure

SYNC = ("throughput", "many_runs", "nothing_to_do", "watching", "memory", "disk")
# Where each is: the modules are imported when they are asked for, since they import much.
BENCHES = {
    "log": ["bench_recording.log"],
    "read": ["bench_recording.read"],
    "memory": ["bench_recording.memory"],
    "list": ["bench_recording.listing"],
    "start": ["bench_surroundings.start"],
    "system": ["bench_surroundings.system"],
    "console": ["bench_surroundings.console"],
    "evaluation": ["bench_evaluation.evaluation"],
    "tables": ["bench_tables.tables"],
    "histogram": ["bench_histogram.histogram"],
    "fit": ["bench_fit.batches_logged"],
    "gradients": ["bench_fit.gradients_followed"],
    "sync": [f"bench_sync.{part}" for part in SYNC],
    "live": ["bench_live.latency", "bench_live.fit"],
}
# Only by name: what takes minutes, and parts of `sync`.
LONG_BENCHES = {
    "long": ["bench_recording.long"],
    **{f"sync-{part.replace('_', '-')}": [f"bench_sync.{part}"] for part in SYNC},
}


def main() -> int:
    benches = {**BENCHES, **LONG_BENCHES}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=", ".join(benches))
    asked = parser.parse_args().what
    if unknown := [name for name in asked if name not in benches]:
        parser.error(f"no benchmark {unknown[0]!r}: there are {', '.join(benches)}")
    figures = []
    for name in asked or BENCHES:
        print(f"\n== {name}", flush=True)
        for place in benches[name]:
            for figure in _bench(place)():
                print(figure, flush=True)
                figures.append(figure)
    return int(not all(figure.kept for figure in figures))


def _bench(place: str) -> Callable[[], Iterator[Figure]]:
    module, _, name = place.partition(".")
    bench: Callable[[], Iterator[Figure]] = getattr(importlib.import_module(module), name)
    return bench


if __name__ == "__main__":
    sys.exit(main())
