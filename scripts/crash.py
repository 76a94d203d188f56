"""Writers killed by SIGKILL at random moments: what they acknowledged is read, and the run goes on.

Each trial is a run of its own. A writer process says after each row, in a file of its own, how many
rows were acknowledged. It is killed; a second process opens the run, compares and verifies it; a
third one resumes it and finishes. Exit status 1 if a row is lost, a run is damaged or can't go on.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from scripts.crash_examination import Found, examine, resume  # noqa: E402
from scripts.crash_processes import fork, in_a_child  # noqa: E402
from scripts.crash_writers import MOMENTS, Tally, write  # noqa: E402
from wandbkeras.store import seal  # noqa: E402, F401  for the processes that are forked from here

# Of a hundred trials, so many are of this kind; each kind has at least one.
SHARES = {"log": 34, "seal": 26, "finish": 22, "artifact": 10, "table": 5, "paced": 2, "fit": 1}


def kill_a_writer(kind: str, store: Path, rng: random.Random) -> bool:
    """Start a writer and kill it at a random moment; whether it still lived then.

    Raises RuntimeError if it had failed by itself.
    """
    word, least, most = MOMENTS[kind]
    delay = least + (most - least) * rng.random() ** 2  # early moments are the busy ones
    if kind in ("log", "artifact") and rng.random() < 0.3:
        word, delay = b"", rng.uniform(0, 0.05)  # while it begins
    reading, writing = os.pipe()
    seed = rng.randrange(2**32)
    if kind == "fit":  # TensorFlow has threads: its process must not be a forked one
        os.set_inheritable(writing, True)
        command = [sys.executable, __file__, "--writer", kind, str(store), str(writing), str(seed)]
        writer = fork(os.execv, sys.executable, command)
    else:
        writer = fork(write, kind, store, writing, seed)
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as words:
        heard = b""
        while word not in heard and (more := words.read(1)):
            heard += more
        time.sleep(delay)
        os.kill(writer, signal.SIGKILL)
        _, status = os.waitpid(writer, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if status:
        said = (store / "stderr").read_text()
        raise RuntimeError(f"the writer ended by itself with status {status}: {said}")
    return False


@dataclass(frozen=True)
class Trial:
    kind: str
    seed: int
    folder: Path


@dataclass
class Outcome:
    """What trials add up to."""

    trials: int = 0
    kills: int = 0
    acknowledged: int = 0
    lost: int = 0
    not_resumable: int = 0
    faults: int = 0

    def add(self, other: Outcome) -> None:
        for name in (f.name for f in fields(self)):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def sound(self) -> bool:
        return not (self.lost or self.not_resumable or self.faults)


def run_trial(trial: Trial) -> tuple[Trial, Outcome, list[str]]:
    """Kill writers of one run, once or more often, then let it go on to its end."""
    rng = random.Random(trial.seed)
    store = trial.folder / f"{trial.kind}-{trial.seed}"
    store.mkdir()
    outcome, faults = Outcome(trials=1), []
    exact, lives = trial.kind != "fit", rng.choice((1, 1, 1, 2, 3))
    tally = store / "acknowledged"
    try:
        for life in range(1, lives + 1):
            outcome.kills += kill_a_writer(trial.kind, store, rng)
            found = Found(**in_a_child(examine, store, Tally.read(tally), exact, life))
            outcome.lost += found.lost
            faults += found.faults
    except RuntimeError as error:
        faults.append(str(error))
    outcome.acknowledged = Tally.read(tally).rows
    try:
        rows = in_a_child(resume, store)
        said = Tally.read(tally)._replace(rows=rows, finished=1, begun=1)
        found = Found(**in_a_child(examine, store, said, exact, 0))
        outcome.lost += found.lost
        faults += [f"when resumed: {fault}" for fault in found.faults]
    except RuntimeError as error:
        outcome.not_resumable = 1
        faults.append(f"can't go on: {error}")
    outcome.faults = len(faults)
    if outcome.sound:
        shutil.rmtree(store)
    return trial, outcome, faults


def plan(trials: int, seed: int, folder: Path) -> Iterator[Trial]:
    """Yield the trials in random order, of each kind its share, the slowest kind first."""
    rng = random.Random(seed)
    kinds = [kind for kind, share in SHARES.items() for _ in range(round(trials * share / 100))]
    kinds = [*(kind for kind in SHARES if kind not in kinds), *kinds]
    rng.shuffle(kinds)
    kinds = sorted((kinds + ["log"] * trials)[:trials], key=lambda kind: kind != "fit")
    for kind in kinds:
        yield Trial(kind, rng.randrange(2**32), folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="choose other moments (default 0)")
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1), metavar="N")
    parser.add_argument("--writer", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.writer:
        kind, store, words, seed = arguments.writer
        write(kind, Path(store), int(words), int(seed))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="crash-"))
    total, every = Outcome(), max(1, arguments.trials // 20)
    with multiprocessing.get_context("fork").Pool(arguments.jobs) as pool:
        trials = plan(arguments.trials, arguments.seed, folder)
        for trial, outcome, faults in pool.imap_unordered(run_trial, trials):
            total.add(outcome)
            for fault in faults:
                print(f"{trial.kind} {trial.seed}: {fault}", flush=True)
            if total.trials % every == 0:
                print(f"{total.trials:,} of {arguments.trials:,} trials", flush=True)
    report(total)
    with suppress(OSError):
        folder.rmdir()
    if not total.sound:
        print(f"runs with faults are in {folder}")
    return int(not total.sound)


def report(total: Outcome) -> None:
    figures = {
        "trials": total.trials,
        "kills": total.kills,
        "rows acknowledged": total.acknowledged,
        "rows lost": total.lost,
        "runs not resumable": total.not_resumable,
        "other faults": total.faults,
    }
    for name, figure in figures.items():
        print(f"{name:<20}{figure:>14,}")


if __name__ == "__main__":
    sys.exit(main())
