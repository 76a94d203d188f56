"""The job, the watcher and the copy of docs/hpc.md, run as they stand, without SLURM."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.server.process import LoopbackServer
from tests.test_docs import PRELUDE, ROOT, python_blocks
from wandbkeras import Store

TEXT = (ROOT / "docs" / "hpc.md").read_text()
# What SLURM does: the job is warned in its second epoch, unless it has been started again.
SCHEDULER = """
import signal, time

class Scheduler(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1 and "SLURM_RESTART_COUNT" not in os.environ:
            os.kill(os.getpid(), signal.SIGUSR1)
            while not wandbkeras.run.preempting:
                time.sleep(0.01)

def fit(self, *arguments, callbacks, before=keras.Sequential.fit, **keywords):
    return before(self, *arguments, callbacks=[*callbacks, Scheduler()], **keywords)

keras.Sequential.fit = fit
"""
TOOLS = {
    "srun": 'exec "$@"',
    "python": f'exec {shlex.quote(sys.executable)} "$@"',
    "scontrol": 'echo "$@" >> requeued',
    "sbatch": "echo 7",
    "rsync": 'cp -a "$HOME/${2#login:}." "$3"',
}


def shell(script: str, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script], cwd=cwd, env=env, stdout=subprocess.PIPE, text=True, check=False
    )


def test_the_job_is_preempted_started_again_and_synced(
    tmp_path: Path, wandb_server: LoopbackServer
) -> None:
    """Its two attempts are one run of five epochs, and the watcher brings it to W&B.

    A copy on a laptop is known to have arrived.
    """
    job, watch = re.findall(r"^```bash\n(.*?)^```", TEXT, re.M | re.S)
    (tmp_path / "train.py").write_text(PRELUDE + SCHEDULER + python_blocks(ROOT / "docs/hpc.md")[0])
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, line in TOOLS.items():
        (tools / name).write_text(f"#!/bin/sh\n{line}\n")
        (tools / name).chmod(0o755)
    path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {"HOME": str(tmp_path), "PATH": path, "SLURM_JOB_ID": "7"}
    codes = [
        shell(job, tmp_path, {**os.environ, **own, **restart}).returncode
        for restart in ({}, {"SLURM_RESTART_COUNT": "1"})
    ]
    assert codes == [75, 0]
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"
    (run,) = Store(tmp_path / "runs").runs()
    assert (run.info.id, run.state) == ("digits-7", "finished")
    rows = [(row.values["epoch"], row.attempt) for row in run.rows()]
    assert rows == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1)]
    online = {**wandb_server.environ(tmp_path), **own}
    assert shell(watch, tmp_path, online).stdout.endswith("all is in W&B\n")
    there = wandb_server.run("loopback", "digits", "digits-7")
    assert [row["epoch"] for row in there.rows] == [0, 1, 2, 3, 4]
    assert there.state == "finished"
    (tmp_path / "laptop" / "runs").mkdir(parents=True)
    copying = "\n".join(re.findall("^    (rsync.*|wandbkeras sync runs)$", TEXT, re.M))
    copied = shell(copying, tmp_path / "laptop", online)
    assert "nothing to send: 5 rows" in copied.stdout
