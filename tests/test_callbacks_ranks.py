"""Which process of a training this is: asked of what distributes it, and of nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import keras
import pytest

import wandbkeras
from wandbkeras.callbacks.ranks import ALONE, Rank, live_rank


class Horovod(SimpleNamespace):
    """Horovod's module for a framework, as far as it is asked."""


def horovod(*, initialized: bool) -> Horovod:
    return Horovod(is_initialized=lambda: initialized, rank=lambda: 3, size=lambda: 4)


@pytest.mark.parametrize("name", ["tensorflow", "tensorflow.keras", "keras", "torch"])
def test_horovod_is_asked_if_it_is_loaded_and_initialised(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whichever of its modules the program uses."""
    monkeypatch.setitem(sys.modules, f"horovod.{name}", horovod(initialized=True))
    assert live_rank() == Rank(3, 4, "Horovod")
    monkeypatch.setitem(sys.modules, f"horovod.{name}", horovod(initialized=False))
    assert live_rank() == ALONE


def test_variables_of_schedulers_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that trains alone in a job of many tasks records."""
    for name, value in {"SLURM_PROCID": "3", "RANK": "3", "OMPI_COMM_WORLD_RANK": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert live_rank() == ALONE


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("jobs", "task", "rank"),
    [
        ({"worker": ["a:1", "b:1"]}, ("worker", 0), Rank(0, 2, "tf.distribute", True)),
        ({"worker": ["a:1", "b:1"]}, ("worker", 1), Rank(1, 2, "tf.distribute", True)),
        ({"chief": ["a:1"], "worker": ["b:1"]}, ("chief", 0), Rank(0, 2, "tf.distribute", True)),
        ({"chief": ["a:1"], "worker": ["b:1"]}, ("worker", 0), Rank(1, 2, "tf.distribute", True)),
        ({"worker": ["a:1"]}, ("worker", 0), ALONE),
    ],
)
def test_a_strategy_is_asked_by_its_cluster(
    jobs: dict[str, list[str]], task: tuple[str, int], rank: Rank
) -> None:
    """A chief goes before the workers; without one worker 0 is the chief."""
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(jobs), task_type=task[0], task_id=task[1]
    )
    strategy = SimpleNamespace(cluster_resolver=resolver)
    assert live_rank(SimpleNamespace(distribute_strategy=strategy)) == rank


@pytest.fixture
def model() -> keras.Model:
    made = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    made.compile("sgd", "mse")
    return made


def test_another_process_than_the_chief_records_nothing(
    start: Callable[..., wandbkeras.Run], model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it start a run; each of our callbacks, in each of its hooks."""
    monkeypatch.setitem(sys.modules, "horovod.keras", horovod(initialized=True))
    callbacks = [
        wandbkeras.WandbCallback(monitor="loss", log_batch_frequency=1, log_weights=True),
        wandbkeras.WandbMetricsLogger("batch"),
        wandbkeras.WandbModelCheckpoint("never.keras"),
    ]
    x = keras.ops.ones((4, 3))
    model.fit(x, x[:, :1], epochs=1, verbose=0, callbacks=callbacks)
    assert wandbkeras.run is None
    run = start()
    model.fit(x, x[:, :1], epochs=1, verbose=0, callbacks=callbacks)
    run.finish()
    stored = wandbkeras.StoredRun(run.dir or "")
    assert (stored.row_count, stored.summary, stored.artifacts) == (0, {}, [])
    assert [event.type for event in stored.events()].count("beside") == 1
    # The next training may be one process's.
    monkeypatch.delitem(sys.modules, "horovod.keras")
    start(id="alone")
    model.fit(x, x[:, :1], epochs=1, verbose=0, callbacks=callbacks[:1])
    assert len(wandbkeras.Store(stored.path.parent).run("alone").artifacts) == 1
