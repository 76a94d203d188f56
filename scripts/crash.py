"""Writers killed by SIGKILL at random moments: what they acknowledged is read, and the run goes on.

Each trial is a run of its own. A writer process says after each row, in a file of its own, how many
rows were acknowledged. It is killed; a second process opens the run, compares and verifies it; a
third one resumes it and finishes. Exit status 1 if a row is lost, a run is damaged or can't go on.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas  # noqa: F401  pyarrow imports it when it first reads a file

import wandbkeras
from wandbkeras.errors import NotFoundError
from wandbkeras.recording.opening import open_run
from wandbkeras.recording.settings import Settings, resolve
from wandbkeras.store import seal  # noqa: F401  for the processes that are forked from this one
from wandbkeras.store.directory import Store
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.verify import verify_run

RUN_ID = "k3j9x2ab"
CONFIG = {"lr": 0.1}
ROWS_AFTER = 3
# Of a hundred trials, so many are of this kind; each kind has at least one.
SHARES = {"log": 34, "seal": 26, "finish": 22, "artifact": 10, "table": 5, "paced": 2, "fit": 1}


# --- what a writer acknowledged -------------------------------------------------------------------


class Acknowledged(NamedTuple):
    """What was acknowledged: the run exists, so many rows and artifacts, it is finished."""

    begun: int = 0
    rows: int = 0
    artifacts: int = 0
    finished: int = 0


class Tally:
    """The file to which a writer says what was acknowledged: a kill takes nothing of it back."""

    _FORM = struct.Struct("<4q")

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._said = self.read(path)

    def say(self, **changes: int) -> None:
        self._said = self._said._replace(**changes)
        os.pwrite(self._fd, self._FORM.pack(*self._said), 0)

    def add_artifact(self) -> None:
        self.say(artifacts=self._said.artifacts + 1)

    @classmethod
    def read(cls, path: Path) -> Acknowledged:
        data = path.read_bytes() if path.exists() else b""
        return Acknowledged(*cls._FORM.unpack(data)) if data else Acknowledged()


# --- writers --------------------------------------------------------------------------------------

Say = Callable[[bytes], Any]
BEGUN, FINISHING = b"b", b"f"


def settings(store: Path, run_id: str = RUN_ID) -> Settings:
    given = dict.fromkeys(
        ("project", "entity", "name", "group", "job_type", "tags", "notes", "mode")
    )
    return resolve(
        created=time.time(), directory=store, id=run_id, resume="allow", environ={}, **given
    )


def values(step: int) -> dict[str, Any]:
    return {"n": step, "loss": 1 / (step + 1)}


def begin(store: Path, tally: Tally, say: Say, segment_bytes: int | None = None) -> wandbkeras.Run:
    if segment_bytes is None:
        run = wandbkeras.init(dir=store, id=RUN_ID, resume="allow", config=CONFIG)
    else:
        run = open_run(settings(store), segment_bytes=segment_bytes)
        run.config.update(CONFIG)
    tally.say(begun=1)
    say(BEGUN)
    return run


def log(run: wandbkeras.Run, tally: Tally) -> None:
    run.log(values(run.step))
    tally.say(rows=run.step)


def write_log(store: Path, tally: Tally, say: Say, rng: random.Random) -> None:
    """Rows as fast as it goes."""
    run = begin(store, tally, say)
    while True:
        log(run, tally)


def write_table(store: Path, tally: Tally, say: Say, rng: random.Random) -> None:
    """Rows that name a table of images."""
    run = begin(store, tally, say)
    while True:
        image = wandbkeras.Image(np.full((8, 8), run.step % 256, np.uint8))
        run.log({**values(run.step), "images": [image]})
        tally.say(rows=run.step)


def write_paced(store: Path, tally: Tally, say: Say, rng: random.Random) -> None:
    """A row a second."""
    run = begin(store, tally, say)
    while True:
        log(run, tally)
        time.sleep(1)


def write_seal(store: Path, tally: Tally, say: Say, rng: random.Random) -> None:
    """Small segments, so that something is being sealed most of the time."""
    run = begin(store, tally, say, segment_bytes=rng.choice((5_000, 50_000, 200_000)))
    while True:
        log(run, tally)


def write_finish(store: Path, tally: Tally, say: Say, rng: random.Random) -> None:
    """Some rows in several segments, then the end with its compaction."""
    run = begin(store, tally, say, segment_bytes=rng.choice((2_000, 10_000)))
    for _ in range(rng.randrange(1, 400)):
        log(run, tally)
    say(FINISHING)
    run.finish()
    tally.say(finished=1)


def write_artifact(store: Path, tally: Tally, say: Say, rng: random.Random) -> None:
    """Rows, and versions of an artifact with two files."""
    folder = store / "sources"
    folder.mkdir(exist_ok=True)
    run = begin(store, tally, say)
    for number in count():
        log(run, tally)
        for name in ("weights", "notes"):
            (folder / name).write_bytes(rng.randbytes(rng.randrange(1, 200_000)))
        (folder / "notes").write_bytes(b"the same" * (number % 3))
        run.log_artifact(folder, name="model", type="model")
        tally.add_artifact()


def write_fit(store: Path, tally: Tally, say: Say, rng: random.Random) -> None:
    """A real training, with each batch's row and each best model."""
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    import keras

    x = np.random.default_rng(1).normal(size=(64, 3)).astype("float32")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    run = begin(store, tally, say)
    original = run.log

    def log_and_tell(*arguments: Any, **keywords: Any) -> None:
        original(*arguments, **keywords)
        tally.say(rows=run.step)

    run.log = log_and_tell  # type: ignore[method-assign]
    callback = wandbkeras.WandbCallback(monitor="loss", log_batch_frequency=1)
    target = x.sum(axis=1, keepdims=True)
    model.fit(x, target, batch_size=8, epochs=10**6, verbose=0, callbacks=[callback])


WRITERS: dict[str, Callable[[Path, Tally, Say, random.Random], None]] = {
    "log": write_log,
    "paced": write_paced,
    "seal": write_seal,
    "finish": write_finish,
    "artifact": write_artifact,
    "table": write_table,
    "fit": write_fit,
}
# When a writer of a kind is killed: after which word of it, and how many seconds at most later.
MOMENTS: dict[str, tuple[bytes, float, float]] = {
    "log": (BEGUN, 0.0, 0.4),
    "paced": (BEGUN, 0.5, 6.0),
    "seal": (BEGUN, 1.0, 2.8),
    "finish": (FINISHING, 0.0, 0.5),
    "artifact": (BEGUN, 0.0, 0.4),
    "table": (BEGUN, 0.0, 0.4),
    "fit": (BEGUN, 0.2, 5.0),
}


def write(kind: str, store: Path, words: int, seed: int) -> None:
    """Be a writer of this kind until killed; ``words`` is the descriptor to tell its phases to."""
    with (store / "stderr").open("ab") as file:
        os.dup2(file.fileno(), 2)
    tally = Tally(store / "acknowledged")
    WRITERS[kind](store, tally, partial(os.write, words), random.Random(seed))


# --- processes ------------------------------------------------------------------------------------


def fork(function: Callable[..., None], *arguments: Any) -> int:
    """Run ``function`` in a child and return its process id; the child ends with it."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        function(*arguments)
        status = 0
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def in_a_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what ``function`` returns in another process; RuntimeError with its traceback."""
    reading, writing = os.pipe()

    def work() -> None:
        try:
            answer = {"returned": function(*arguments)}
        except BaseException:  # noqa: BLE001
            answer = {"raised": traceback.format_exc()}
        with os.fdopen(writing, "w") as file:
            json.dump(answer, file)

    child = fork(work)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    answer = json.loads(text) if text else {"raised": f"the process ended with status {status}"}
    if "raised" in answer:
        raise RuntimeError(answer["raised"])
    return answer["returned"]


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


# --- what is left ---------------------------------------------------------------------------------


@dataclass
class Found:
    """What a process that opened the run found."""

    rows: int = 0
    lost: int = 0
    faults: list[str] = field(default_factory=list)


def examine(
    store: Path,
    said: Acknowledged,
    exact: bool = True,
    more: int = 1,
    skipped: Collection[int] = (),
) -> dict[str, Any]:
    """Compare the run with what was acknowledged, and verify every byte of it.

    ``more`` rows may be there that were being written, at the steps that follow; ``skipped`` are
    steps that may be missing. Returns the members of a :class:`Found`.
    """
    found = Found()
    try:
        run = Store(store).run(RUN_ID)
    except NotFoundError:
        if said.begun:
            found.faults.append("there is no run")
        found.lost = said.rows
        return vars(found)
    found.faults += [f"damage: {line}" for line in (*run.damage, *verify_run(run.path).damage)]
    _compare_rows(run, said, exact, more, skipped, found)
    if len(run.artifacts) < said.artifacts:
        found.faults.append(f"{said.artifacts} artifacts were logged, {len(run.artifacts)} found")
    for version in run.artifacts:
        for file in version.files.values():
            run.blob(file.sha256)  # it is there; verify has compared its bytes
    if said.begun and run.config != CONFIG:
        found.faults.append(f"the config is {run.config}")
    if run.state not in (("finished",) if said.finished else ("crashed", "finished")):
        found.faults.append(f"the run is {run.state}")
    return vars(found)


def _compare_rows(
    run: StoredRun,
    said: Acknowledged,
    exact: bool,
    more: int,
    skipped: Collection[int],
    found: Found,
) -> None:
    table = run.history()
    steps = table["_step"].to_numpy()
    found.rows = len(steps)
    end = int(steps[-1]) + 1 if len(steps) else 0
    missing = np.setdiff1d(np.arange(max(end, said.rows)), [*steps, *skipped])
    found.lost = len(missing)
    if end > said.rows + more or len(np.unique(steps)) != len(steps):
        found.faults.append(f"rows that nobody logged: {said.rows} were, {len(steps)} up to {end}")
    if exact and len(steps):
        wrong = (table["n"].to_numpy() != steps) | (table["loss"].to_numpy() != 1 / (steps + 1))
        found.lost += int(wrong.sum())
    if run.row_count != len(steps):
        found.faults.append(f"the run counts {run.row_count} rows, its history {len(steps)}")


def resume(store: Path) -> int:
    """Go on with the run, as a script that is started again does; return its rows then."""
    run = wandbkeras.init(dir=store, id=RUN_ID, resume="allow", config=CONFIG)
    for _ in range(ROWS_AFTER):
        run.log(values(run.step))
    run.finish()
    return run.step


# --- trials ---------------------------------------------------------------------------------------


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
