"""Syncs killed by SIGKILL at random moments: the next one completes the run, nothing is doubled.

Each trial is a run of its own and a fresh home. ``wandbkeras sync`` is killed once or more often,
half of the times with W&B's client and its service, as when the machine loses its power. Then a
sync that is left alone must end verified, and the loopback server, which is strict, must hold each
row once, each artifact version once, each file, and the true end. Exit status 1 if it does not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import wandbkeras  # noqa: E402
from tests.server.process import LoopbackServer  # noqa: E402
from wandbkeras.sync.engine import sync  # noqa: E402
from wandbkeras.sync.options import Options  # noqa: E402

ENTITY, PROJECT = "loopback", "digits"
ROWS, VERSIONS = 1_500, 3
# All that is started for a trial has it in its environment, so that nothing else is ever killed.
MARK = "WANDBKERAS_TRIAL"
# Requests of a killed client may still be on their way.
SETTLE_S = 1.0


def record(store: Path, run_id: str) -> Path:
    """A finished run with rows, versions of an artifact, a table, and a file."""
    run = wandbkeras.init(dir=store, id=run_id, project=PROJECT, config={"lr": 0.1})
    for i in range(ROWS):
        run.log({"loss": 1.0 / (i + 1), "n": i})
    run.log({"table": wandbkeras.Table(["n"], [[1], [2]]), "loss": 0.0, "n": ROWS})
    source = store / f"{run_id}.bin"
    for version in range(VERSIONS):
        source.write_bytes(f"{run_id} {version}".encode() * 20_000)
        run.log_artifact(source, name=f"data-{run_id}", type="dataset")
    run.save(source, base_path=store)
    run.finish(0)
    return Path(run.dir or "")


def processes_of(mark: str) -> Iterator[int]:
    """Yield the processes that were started for a trial."""
    wanted = f"{MARK}={mark}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if wanted in path.read_bytes().split(b"\0"):
                yield int(path.parent.name)


def start(server: LoopbackServer, run: Path, home: Path, mark: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [Path(sys.executable).with_name("wandbkeras"), "sync", run, "--quiet"],
        env=server.environ(home) | {MARK: mark, "TMPDIR": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill(syncing: subprocess.Popen[bytes], mark: str, *, whole_machine: bool) -> bool:
    """Kill a sync, and with it all that it started; return whether it was still at work."""
    was_alive = syncing.poll() is None
    syncing.kill()
    syncing.wait()
    if whole_machine:
        for pid in processes_of(mark):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return was_alive


def what_arrived(server: LoopbackServer, run_id: str) -> str:
    """Say in a few words what the server held when a sync was killed."""
    try:
        held = server.run(ENTITY, PROJECT, run_id)
    except LookupError:
        return "nothing"
    versions = [a.state for a in held.logged_artifacts].count("COMMITTED")
    rows = "all" if len(held.history) > ROWS else "some" if held.history else "no"
    parts = "all" if versions > VERSIONS else "some" if versions else "no"
    return f"{rows} rows, {parts} versions"


def faults_of(server: LoopbackServer, run: Path, run_id: str) -> list[str]:
    """Sync the run to its end, and say what is not as it should be then."""
    options = Options(timeout_s=60, settle_s=SETTLE_S)
    (result,) = sync([run], options)
    if result.error is not None:
        return [str(result.error)]
    held = server.run(ENTITY, PROJECT, run_id)
    versions: dict[str, list[int | None]] = {}
    for artifact in held.logged_artifacts:
        versions.setdefault(artifact.name, []).append(artifact.version)
    (again,) = sync([run], options)
    expected = {
        "rows": (list(range(ROWS + 1)), [row["n"] for row in held.rows]),
        "versions": (
            {f"data-{run_id}": [*range(VERSIONS)], f"run-{run_id}-table": [0]},
            versions,
        ),
        "files": (
            f"{run_id} {VERSIONS - 1}".encode() * 20_000,
            held.files.get(f"{run_id}.bin"),
        ),
        "end": (("finished", 0), (held.state, held.exit_code)),
        "config": ({"lr": 0.1}, held.config_values),
        "the next sync": ("unchanged", again.outcome),
    }
    return [
        f"{what}: expected {wanted!r:.100}, found {found!r:.100}"
        for what, (wanted, found) in expected.items()
        if wanted != found
    ]


@dataclass(frozen=True)
class Place:
    """What the trials of one process share: a server, and how many requests a sync makes of it."""

    server: LoopbackServer
    folder: Path
    requests: int


_place: Place


def begin(folder: Path) -> None:
    """Start the server of this process, which ends with it, and sync a run that nobody kills."""
    global _place
    folder = Path(tempfile.mkdtemp(dir=folder))
    server = LoopbackServer(folder / "server").start()
    os.environ.update(server.environ(folder))
    if start(server, record(folder, "undisturbed"), folder, "undisturbed").wait() != 0:
        raise RuntimeError("a sync that nobody kills fails")
    _place = Place(server, folder, len(server.requests()))


def trial(seed: int) -> tuple[int, Counter[str], list[str]]:
    """Kill syncs of one run, then let one end; return the number, what each left, and faults."""
    rng, server = random.Random(seed), _place.server
    run_id = mark = f"{seed:08x}"
    home = _place.folder / run_id
    home.mkdir()
    run = record(_place.folder, run_id)
    kills, left = 0, Counter[str]()
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        syncing = start(server, run, home, mark)
        wait_for(syncing, rng.randrange(_place.requests))
        time.sleep(rng.uniform(0.0, 0.1))  # the moment is to be any
        if kill(syncing, mark, whole_machine=rng.random() < 0.5):
            kills += 1
            left[what_arrived(server, run_id)] += 1
    faults = faults_of(server, run, run_id)
    faults += [f"violation: {v.kind}: {v.message}" for v in server.violations()]
    shutil.rmtree(home)
    return kills, left, faults


def wait_for(syncing: subprocess.Popen[bytes], requests: int) -> None:
    """Return when the server has answered so many requests of the sync, or the sync has ended."""
    wanted = len(_place.server.requests()) + requests
    while len(_place.server.requests()) < wanted and syncing.poll() is None:
        time.sleep(0.005)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="choose other moments (default 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    kills, trials, left, faults = 0, 0, Counter[str](), list[str]()
    with (
        tempfile.TemporaryDirectory(prefix="crash-sync-") as name,
        ProcessPoolExecutor(
            arguments.jobs, multiprocessing.get_context("spawn"), begin, (Path(name),)
        ) as pool,
    ):
        while kills < arguments.kills:
            count = min(10, (arguments.kills - kills + 1) // 2)
            seeds = [rng.randrange(2**32) for _ in range(count)]
            futures = {pool.submit(trial, seed): seed for seed in seeds}
            for future in as_completed(futures):
                trials += 1
                more, found, wrong = future.result()
                kills += more
                left += found
                faults += [f"trial {futures[future]}: {text}" for text in wrong]
            print(f"{kills} of {arguments.kills} kills", *faults, file=sys.stderr, flush=True)
    figures = {
        "kills": kills,
        "trials": trials,
        "faults": faults,
        "left": dict(sorted(left.items())),
    }
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        print(f"kills {kills}, runs {trials}, faults {len(faults)}", *faults, sep="\n")
        print("\n".join(f"  the server then held {what}: {n}" for what, n in left.most_common()))
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
