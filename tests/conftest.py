"""What every test stands on: no settings from outside, no run left over from another test."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import wandbkeras
from tests.server.fixture import LoopbackServer, wandb_server  # noqa: F401
from wandbkeras.store import document
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import RunInfo

# Examples write real files, so none has a deadline. The same ones each time: a run that fails is no
# lottery; `--hypothesis-profile thorough` looks further.
_COMMON = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}
settings.register_profile("steady", derandomize=True, **_COMMON)
settings.register_profile("thorough", derandomize=False, max_examples=2_000, **_COMMON)
settings.load_profile("steady")
# Tests of one backend are collected where Keras runs on it.
_BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")
_OTHERS = {"tensorflow", "jax", "torch"} - {_BACKEND}
collect_ignore_glob = [f"test_callbacks_*_{name}.py" for name in sorted(_OTHERS)]
if _BACKEND != "tensorflow":
    collect_ignore = [
        "test_callbacks_any_keras.py",
        "test_callbacks_eval_callback.py",
        "test_recording_values.py",
    ]
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
# A shell lets its jobs in the background ignore Ctrl-C, and so would the commands that tests end.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Tests of other things record nothing of this machine; those of `context` delete these.
QUIET = {
    "WANDBKERAS_ENVIRONMENT": "off",
    "WANDBKERAS_SYSTEM_METRICS": "off",
    "WANDBKERAS_CONSOLE": "off",
}
os.environ.update(QUIET)


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide wandb's settings from the test and finish the run that it leaves active."""
    for name in _settings():
        monkeypatch.delenv(name)
    yield
    wandbkeras.finish()


@pytest.fixture(autouse=True, scope="module")
def _nothing_from_another_module() -> Iterator[None]:
    """Take back what wandb's client, used in this process, has set: WANDB_SERVICE, a dead one's."""
    before = {name: os.environ[name] for name in _settings()}
    yield
    for name in _settings():
        del os.environ[name]
    os.environ.update(before)


def _settings() -> list[str]:
    ours = [name for name in os.environ if name.startswith(("WANDB_", "WANDBKERAS_"))]
    return [name for name in ours if name not in QUIET]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The directory of runs that :func:`start` records into."""
    return tmp_path / "runs"


@pytest.fixture
def start(store: Path) -> Callable[..., wandbkeras.Run]:
    """``init`` with the test's own store."""
    return lambda **arguments: wandbkeras.init(**{"dir": store, **arguments})


@pytest.fixture
def finished(start: Callable[..., wandbkeras.Run]) -> Path:
    """A run of one row that has ended; many tests have one of their own."""
    run = start(project="digits", id="k3j9x2ab")
    run.log({"loss": 1.0})
    run.finish()
    return Path(run.dir or "")


@pytest.fixture
def stored(store: Path) -> Callable[[wandbkeras.Run], StoredRun]:
    """Open a recorded run anew, as another process would."""
    return lambda run: wandbkeras.Store(store).run(run.id)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A run directory that holds its ``run.json`` and nothing else."""
    root = tmp_path / "run-20261123_054500-k3j9x2ab"
    root.mkdir()
    made = Layout(root)
    document.write(Disk(), made.info, RunInfo("k3j9x2ab", 1795412700.0).to_document())
    return made


@pytest.fixture
def server(
    wandb_server: LoopbackServer,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> LoopbackServer:
    """A loopback server of which this process is a client, with a home of its own."""
    from tests.syncing import connect  # and with it wandb, which not every environment has

    connect(wandb_server, tmp_path / "home", monkeypatch)
    return wandb_server
