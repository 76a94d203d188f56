"""One of two processes that train a model: ``python -m tests.workers STORE RANK PORT PORT``.

On JAX through ``keras.distribution``, on Torch beside ``torch.distributed`` with gloo; each process
has its part of the data.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import wandbkeras

ROOT = Path(__file__).parents[1]
EPOCHS, BATCHES = 3, 4


def train_together(store: Path, module: str = "tests.workers") -> list[str]:
    """Run two processes of a module to their end; return what each said on standard error.

    It gets the store, its rank and two free ports.
    """
    with socket.socket() as one, socket.socket() as other:
        for free in (one, other):
            free.bind(("127.0.0.1", 0))
        ports = [str(free.getsockname()[1]) for free in (one, other)]
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", module, str(store), str(rank), *ports],
            cwd=ROOT,
            env={
                **os.environ,
                "WANDB_RUN_ID": "k3j9x2ab",
                "SLURM_PROCID": str(rank),
                "WANDBKERAS_SYSTEM_METRICS": "60",
                "WANDBKERAS_CONSOLE": "auto",
                "JAX_PLATFORMS": "cpu",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(said)
    return said


def main(store: str, rank: str, port: str, _: str) -> None:
    run = wandbkeras.init(dir=store, resume="allow", config={"lr": 0.1})
    print(f"process {rank} trains")
    import keras
    import numpy as np

    if keras.backend.backend() == "jax":
        _join_jax(keras, int(rank), port)
    else:
        _join_torch(int(rank), port)
    keras.utils.set_random_seed(1)
    x = np.random.rand(2, BATCHES * 2, 3).astype("float32")[int(rank)]
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.BatchNormalization(), keras.layers.Dense(1, name="dense")]
    )
    rate = keras.optimizers.schedules.CosineDecay(0.1, EPOCHS * BATCHES)
    model.compile(keras.optimizers.SGD(rate), "mse")
    callback = wandbkeras.WandbCallback(
        monitor="loss",
        log_batch_frequency=1,
        log_weights=True,
        log_gradients=True,
        save_model="background",
    )
    model.fit(x, x.sum(1), batch_size=2, epochs=EPOCHS, verbose=0, callbacks=[callback])
    run.finish()


def _join_jax(keras: object, rank: int, port: str) -> None:
    import jax
    from keras import distribution

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    distribution.initialize(f"127.0.0.1:{port}", 2, rank)
    parallel = distribution.DataParallel(devices=distribution.list_devices())
    parallel.auto_shard_dataset = False  # each has its own part already
    distribution.set_distribution(parallel)


def _join_torch(rank: int, port: str) -> None:
    from torch import distributed

    address = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)


if __name__ == "__main__":
    main(*sys.argv[1:])
