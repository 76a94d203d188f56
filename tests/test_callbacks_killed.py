"""A real ``fit``, killed at every step that it makes on the disk, and cut off from its power."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from scripts.crash_writers import CONFIG, settings
from tests.disks import RecordingDisk, Step
from tests.power_cuts import cases, judge_all, kills, moments
from tests.test_store_crash import ROOT, behind, in_a_forking_process
from wandbkeras.recording import opening, session
from wandbkeras.recording.opening import open_run
from wandbkeras.store import writer

EPOCHS = 4
STEPS = "steps"
# Every few rows a new segment, so that sealing is among the steps.
SEGMENT_BYTES = 1500


def train(folder: Path) -> None:
    """Train with the callback, and leave the steps on the disk in ``folder``.

    For a process of its own, because it loads Keras. Nothing happens in the background: what the
    writer's threads do each second is done after each epoch.
    """
    import keras

    import wandbkeras
    from tests.keras_models import fit, model

    writer.SYNC_SECONDS = 1e6
    store = folder / "store"
    store.mkdir()
    disk = RecordingDisk(store)
    run = open_run(settings(store), disk=disk, segment_bytes=SEGMENT_BYTES)
    session._active = run
    run.config.update(CONFIG)
    run.sync()
    disk.mark({"begun": 1})
    log, log_artifact = run.log, run.log_artifact

    def log_and_tell(data: Any, *arguments: Any, **keywords: Any) -> None:
        log({**data, "n": run.step}, *arguments, **keywords)
        disk.mark({"rows": run.step})

    def log_artifact_and_tell(*arguments: Any, **keywords: Any) -> Any:
        logged = log_artifact(*arguments, **keywords)
        disk.mark({"artifacts": 1})
        return logged

    run.log, run.log_artifact = log_and_tell, log_artifact_and_tell  # type: ignore[method-assign]
    callback = wandbkeras.WandbCallback(monitor="loss", log_batch_frequency=1)
    seal = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: behind(run))
    fit(model(), callback, seal, epochs=EPOCHS, batch_size=4)
    run.finish()
    disk.mark({"finished": 1})
    (folder / STEPS).write_bytes(pickle.dumps(disk.steps))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the steps of a ``fit``."""
    folder = tmp_path_factory.mktemp("fit")
    code = "import pathlib, sys; from tests.test_callbacks_killed import train as do; "
    code += "do(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, folder], cwd=ROOT, check=True)
    return folder


def steps_in(folder: Path) -> list[Step]:
    steps: list[Step] = pickle.loads((folder / STEPS).read_bytes())
    return steps


def kill_everywhere(folder: Path) -> dict[str, Any]:
    """Judge what a kill leaves at each step; for a process without threads, which is forked."""
    opening._PATIENCE_S = 0.05
    writer.SYNC_SECONDS = 1e6
    return judge_all(folder, kills("fit", steps_in(folder)))


def cut_the_power(folder: Path) -> dict[str, Any]:
    """Judge what power cuts at some of the moments leave; as above."""
    opening._PATIENCE_S = 0.05
    writer.SYNC_SECONDS = 1e6
    steps, random = steps_in(folder), Random(1)
    prefixes = sorted(random.sample(list(moments(steps)), 30))
    return judge_all(folder, cases("fit", steps, prefixes, random))


def test_a_fit_makes_every_kind_of_step(trained: Path) -> None:
    """Rows, models, sealing in between and the end: what is killed is a whole training."""
    steps = steps_in(trained)
    assert Counter(step.name for step in steps) >= Counter(
        create=10, write=40, sync=10, sync_directory=10, make_directory=5, replace=10, remove=3,
        adopt=EPOCHS,
    )  # fmt: skip
    marks = [step.mark for step in steps if step.name == "mark"]
    assert sum("artifacts" in mark for mark in marks) == EPOCHS
    assert max(mark.get("rows", 0) for mark in marks) == EPOCHS * 3
    assert marks[-1] == {"finished": 1}


def test_a_fit_killed_at_any_step_has_what_it_acknowledged_and_goes_on(trained: Path) -> None:
    """Before each step and in the middle of each write: rows and models are there and whole."""
    found = in_a_forking_process(kill_everywhere, trained)
    assert found["faults"] == []
    assert found["cases"] > 100


def test_a_fit_without_power_has_what_was_synced_and_goes_on(trained: Path) -> None:
    """What was not synced is lost, torn or there; what was is there, and models are whole."""
    found = in_a_forking_process(cut_the_power, trained)
    assert found["faults"] == []
    assert found["cases"] > 50
