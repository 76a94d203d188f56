"""The whole way in one go: record a Keras training offline, look at it, sync it, see it proven.

The data are scikit-learn's 1,797 scanned digits, which come inside the package. Without
WANDB_API_KEY the run goes to the loopback W&B server of this repository's tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STORE = Path("runs")
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> int:
    run_directory = record()
    look(run_directory)
    if os.environ.get("WANDB_API_KEY"):
        say("Syncing to your W&B (WANDB_API_KEY is set)")
        return sync(run_directory, os.environ)
    from tests.server.process import LoopbackServer

    with tempfile.TemporaryDirectory() as folder:
        say("Syncing to a loopback W&B server, because WANDB_API_KEY is not set")
        with LoopbackServer(Path(folder) / "server") as server:
            code = sync(run_directory, {**os.environ, **server.environ(Path(folder) / "home")})
            violations = server.violations()
    if violations:
        print(f"the server recorded violations: {violations}")
    return code or bool(violations)


def record() -> Path:
    """Train a small convolutional network on the digits and record it."""
    say("Recording: no network, no account, no key")
    import keras
    from sklearn.datasets import load_digits

    import wandbkeras

    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8, 1).astype("float32") / 16
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    run = wandbkeras.init(
        project="digits", dir=STORE, config={"lr": 1e-3, "batch_size": 32}, tags=["demo"]
    )
    model.fit(
        x[:1500],
        y[:1500],
        validation_data=(x[1500:], y[1500:]),
        batch_size=32,
        epochs=5,
        verbose=2,
        callbacks=[wandbkeras.WandbCallback(log_batch_frequency=10)],
    )
    run.finish()
    assert run.dir is not None
    return Path(run.dir).relative_to(Path.cwd())


def look(run_directory: Path) -> None:
    """Show the files, the list of runs, and the history as pandas reads it."""
    say("The run is one directory")
    for path in sorted(run_directory.rglob("*")):
        if path.is_file():
            print(f"  {path.stat().st_size:>9,} B  {path}")
    say(f"$ wandbkeras ls {run_directory}")
    command("ls", str(run_directory))
    say("Its history is plain Parquet: pandas.read_parquet, no code of ours")
    import pandas as pd

    history = pd.read_parquet(run_directory / "history")
    columns = ["_step", "epoch", "loss", "val_loss", "accuracy", "val_accuracy"]
    print(history.dropna(subset="epoch")[columns].to_string(index=False))


def sync(run_directory: Path, environ: Mapping[str, str]) -> int:
    """Sync twice and show what was verified."""
    say(f"$ wandbkeras sync {run_directory}")
    code = command("sync", str(run_directory), environ=environ)
    if code:
        return code
    say("Again: nothing is sent twice")
    code = command("sync", str(run_directory), environ=environ)
    say("The receipt: what was read back from the server and compared")
    for path in sorted((run_directory / "sync").glob("*.json")):
        receipt = json.loads(path.read_bytes())
        print(f"  {path}")
        for key in ("url", "state", "rows", "artifacts", "wandb", "not_compared"):
            print(f"    {key}: {receipt[key]}")
    return code


def command(*arguments: str, environ: Mapping[str, str] | None = None) -> int:
    """Run the command line as a user would."""
    program = [sys.executable, "-c", "from wandbkeras_cli.main import main; main()"]
    return subprocess.run([*program, *arguments], env=environ, check=False).returncode


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
