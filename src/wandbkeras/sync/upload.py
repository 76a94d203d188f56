"""W&B's writing side: the one module that runs ``wandb sync``.

Its exit status and its markers prove nothing, so none of them is looked at: what it prints is kept
to name a cause, and reading back decides.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# `python -m wandb`, ended when the process that started it ends, however that happens: then its
# end of the pipe that is standard input here closes.
_CLIENT = """
import os, runpy, sys, threading

def watch():
    os.read(0, 1)
    os._exit(1)

threading.Thread(target=watch, daemon=True).start()
runpy.run_module("wandb", run_name="__main__", alter_sys=True)
"""
_END_SECONDS = 10.0
_GLANCE_SECONDS = 0.5
# What wandb's log says when an answer was an error after which it asks again, by itself for ever.
_AGAIN = "api: retrying HTTP error"
# A line of wandb's about an error, or the last one of a traceback; names of runs are no trouble.
_TROUBLE = re.compile(r"(?:wandb: )?\s*(?:ERROR|[\w.]*Error:)\s+(.+)")


@dataclass(frozen=True)
class Upload:
    """What the client said: ``complaint`` is its first line about trouble, if any.

    ``shared`` by several runs, any of which may be meant. ``retried`` is the error that the server
    answered last, after which the client asked again.
    """

    complaint: str | None
    timed_out: bool
    shared: bool = False
    retried: str | None = None


def upload(
    directories: Sequence[Path],
    *,
    base_url: str,
    scratch: Path,
    timeout_s: float,
    stopping: threading.Event | None = None,
    environ: Mapping[str, str] | None = None,
) -> Upload:
    """Upload the transaction logs in ``directories`` with the installed wandb client.

    It is ended when the time is up, and when another thread sets ``stopping``.
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
    # Set for the job whose run this is, they would redirect or silence the upload; and in a service
    # shared with this process it would go on when the time is up.
    for name in (
        "WANDB_MODE",
        "WANDB_RUN_ID",
        "WANDB_RESUME",
        "WANDB_SILENT",
        "WANDB_QUIET",
        "WANDB_SERVICE",
        "WANDB_CONSOLE",  # off, it keeps the client from sending the console
    ):
        env.pop(name, None)
    their_end, our_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", _CLIENT, "sync", *map(str, directories)],
        env=env,
        cwd=scratch,
        stdin=their_end,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    os.close(their_end)
    deadline = time.monotonic() + timeout_s
    output, timed_out = None, False
    try:
        while output is None:
            left = deadline - time.monotonic()
            try:
                output = process.communicate(timeout=max(0.0, min(left, _GLANCE_SECONDS)))[0]
            except subprocess.TimeoutExpired:
                if left <= 0 or (stopping is not None and stopping.is_set()):
                    process.kill()
                    output, timed_out = _rest(process), True
    finally:
        process.kill()
        os.close(our_end)
    return Upload(
        _complaint(output),
        timed_out,
        shared=len(directories) > 1,
        retried=_retried(scratch) if timed_out else None,
    )


def _rest(process: subprocess.Popen[bytes]) -> bytes:
    """Return the output of a killed client once its service, which notices that, has ended too."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.communicate(timeout=_END_SECONDS)[0]
    return b""


def _complaint(output: bytes) -> str | None:
    for line in _ANSI.sub("", output.decode(errors="replace")).splitlines():
        if trouble := _TROUBLE.match(line):
            return trouble[1].strip()[:300]
    return None


def _retried(scratch: Path) -> str | None:
    """Return the last error of the server that the client wrote into its log."""
    found = None
    for path in scratch.glob("wandb/logs/*.log"):
        for line in path.read_text(errors="replace").splitlines():
            if _AGAIN in line:
                with contextlib.suppress(ValueError):  # a line that was being written
                    entry = json.loads(line)
                    found = f"HTTP {entry.get('status')} from {entry.get('url')}"
    return found
