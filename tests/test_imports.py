"""What recording loads: no framework, no wandb."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import wandbkeras

_LOADED = """
import json, sys
wanted = ("keras", "tensorflow", "torch", "jax", "wandb", "click", "rich", "pyarrow", "numpy")
def loaded():
    return [name for name in wanted if name in sys.modules]
"""

_A_WHOLE_RUN = """
import pathlib, wandbkeras
after_import = loaded()
pathlib.Path("data.txt").write_text("x")
run = wandbkeras.init(project="p", dir="runs", id="new", config={"lr": 0.1})
for step in range(3):
    wandbkeras.log({"loss": 1 / (step + 1), "epoch": step, "weights": [1.0, 2.0], "phase": "warm"})
wandbkeras.summary["best"] = 0.5
wandbkeras.config["batch"] = 32
wandbkeras.define_metric("loss", summary="min")
wandbkeras.log_artifact("data.txt")
run.log({"loss": 0.0}, step=9)
plain = loaded()
run.log({"weights": wandbkeras.Histogram([1])})
before_finish = loaded()
wandbkeras.finish()
print(json.dumps([after_import, plain, before_finish, loaded()]))
"""


def test_a_whole_run_loads_neither_a_framework_nor_wandb(tmp_path: Path) -> None:
    """Nothing heavy is loaded by importing, nor by a new run, under an id of one's own too, that
    records plain values; a histogram adds numpy, and only sealing adds pyarrow."""
    script = _LOADED + _A_WHOLE_RUN
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [[], [], ["numpy"], ["pyarrow", "numpy"]]


def test_what_surrounds_a_run_loads_no_framework_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environment, console and system metrics, as they are by default, import neither Keras nor
    wandb."""
    monkeypatch.delenv("WANDBKERAS_ENVIRONMENT")
    monkeypatch.delenv("WANDBKERAS_SYSTEM_METRICS")
    monkeypatch.delenv("WANDBKERAS_CONSOLE")
    script = f"{_LOADED}\nimport wandbkeras\nwith wandbkeras.init(dir='runs') as run: pass\n"
    script += "print(json.dumps([loaded(), 'psutil' in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [["pyarrow", "numpy"], True]
    assert done.stderr == ""


def test_every_public_name_is_there_and_is_listed() -> None:
    """``__all__`` holds exactly the public names, and each leads somewhere."""
    of_the_run = ("config", "run", "summary")
    assert all(getattr(wandbkeras, name) for name in wandbkeras.__all__ if name not in of_the_run)
    assert wandbkeras.__all__ == sorted(wandbkeras.__all__)
    assert set(wandbkeras.__all__) <= set(dir(wandbkeras))
    homes = {*wandbkeras._HOMES, *wandbkeras._OF_THE_RUN}
    assert set(wandbkeras.__all__) == homes


def test_an_unknown_name_is_an_attribute_error() -> None:
    """The package answers for names it lacks as any module does."""
    assert not hasattr(wandbkeras, "watch")


def test_the_names_of_the_active_run_follow_it(start: Callable[..., wandbkeras.Run]) -> None:
    """``wandbkeras.run`` is the active run, and None when there is none."""
    assert wandbkeras.run is None
    run = start(config={"lr": 0.1})
    assert wandbkeras.run is run
    assert wandbkeras.config["lr"] == 0.1
    run.finish()
    assert wandbkeras.run is None
