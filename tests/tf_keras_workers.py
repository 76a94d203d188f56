"""One of two processes that train a model of ``tf_keras`` under MultiWorkerMirroredStrategy.

``python -m tests.tf_keras_workers STORE RANK PORT PORT``: a port for each of them.
"""

from __future__ import annotations

import json
import os
import sys

import wandbkeras

EPOCHS, BATCHES = 2, 4


def main(store: str, rank: str, *ports: str) -> None:
    workers = [f"127.0.0.1:{port}" for port in ports]
    task = {"type": "worker", "index": int(rank)}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": task})
    run = wandbkeras.init(dir=store, resume="allow")
    import tensorflow as tf
    import tf_keras

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        model = tf_keras.Sequential([tf_keras.layers.Input((3,)), tf_keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    x = tf.random.stateless_uniform((BATCHES * 4, 3), (1, 2))
    batches = tf.data.Dataset.from_tensor_slices((x, tf.reduce_sum(x, 1, keepdims=True))).batch(4)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    callback = wandbkeras.WandbCallback(
        "loss", log_batch_frequency=1, log_weights=True, save_graph=False
    )
    fed = batches.with_options(options)
    history = model.fit(fed, epochs=EPOCHS, verbose=0, callbacks=[callback]).history
    if rank == "0":
        run.summary["losses"] = history["loss"]
    run.finish()


if __name__ == "__main__":
    main(*sys.argv[1:])
