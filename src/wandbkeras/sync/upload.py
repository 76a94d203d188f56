"""W&B's writing side: the one module that runs ``wandb sync``.

Its exit status and its markers prove nothing, so none of them is looked at: what it prints is kept
to name a cause, and reading back decides.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TROUBLE = re.compile(r"error|fail|refus|denied|invalid|timed? ?out|not authenticated", re.I)


@dataclass(frozen=True)
class Upload:
    """What the client said: ``complaint`` is its first line about trouble, if any."""

    complaint: str | None
    timed_out: bool


def upload(
    directories: Sequence[Path],
    *,
    base_url: str,
    scratch: Path,
    timeout_s: float,
    environ: Mapping[str, str] | None = None,
) -> Upload:
    """Upload the transaction logs in ``directories`` with the installed wandb client.

    ``scratch`` takes what the client writes beside: logs, caches. Credentials and settings are its
    own (``~/.netrc``, ``WANDB_API_KEY``, …).
    """
    env = dict(os.environ if environ is None else environ)
    env |= {
        "WANDB_BASE_URL": base_url,
        "WANDB_DIR": str(scratch),
        "WANDB_CACHE_DIR": str(scratch / "cache"),
        "WANDB_DATA_DIR": str(scratch / "data"),
        "WANDB_ERROR_REPORTING": "false",
    }
    # Set for the job whose run this is, they would redirect or silence the upload.
    for name in ("WANDB_MODE", "WANDB_RUN_ID", "WANDB_RESUME", "WANDB_SILENT", "WANDB_QUIET"):
        env.pop(name, None)
    command = [sys.executable, "-m", "wandb", "sync", *map(str, directories)]
    output = scratch / "wandb-sync.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            command,
            env=env,
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # A group of its own: the client starts a service that must end with it.
            start_new_session=True,
        )
        try:
            process.wait(timeout_s)
            timed_out = False
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return Upload(_complaint(output.read_bytes()), timed_out)


def _complaint(output: bytes) -> str | None:
    for line in _ANSI.sub("", output.decode(errors="replace")).splitlines():
        text = line.removeprefix("wandb: ").strip()
        if _TROUBLE.search(text):
            return text[:300]
    return None
