"""Writers that are killed: each says in a file of its own how many rows were acknowledged."""

from __future__ import annotations

import os
import random
import struct
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import wandbkeras
from wandbkeras.recording.opening import open_run
from wandbkeras.recording.settings import Settings, resolve

RUN_ID = "k3j9x2ab"
CONFIG = {"lr": 0.1}
Say = Callable[[bytes], Any]
BEGUN, FINISHING = b"b", b"f"


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
    tally.say(begun=1, finished=0)  # what an earlier writer of the run had finished goes on
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
