"""W&B's writing side: the one module that runs ``wandb sync``.

Its exit status and its markers prove nothing, so none of them is looked at: what it prints is kept
to name a cause, and reading back decides. :func:`upload` starts it for one upload; a
:class:`Client` is kept for many, since a start takes longer than sending a few rows.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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
# The same command again and again, for each line of standard input; a line of its own says that
# one has ended.
_KEPT_CLIENT = """
import json, os, queue, sys, threading, traceback

from wandb.cli.cli import cli

lines = queue.SimpleQueue()

def listen():
    for line in sys.stdin:
        lines.put(line)
    os._exit(1)

threading.Thread(target=listen, daemon=True).start()
while True:
    arguments = json.loads(lines.get())
    try:
        cli(arguments, standalone_mode=False)
    except (Exception, SystemExit):
        traceback.print_exc()
    sys.stderr.flush()
    print(sys.argv[1], flush=True)
"""
_END_SECONDS = 10.0
_GLANCE_SECONDS = 0.5
# What wandb's log says when an answer was an error after which it asks again, by itself for ever.
_AGAIN = "api: retrying HTTP error"
_SILENT_SECONDS = 1.0
# What the client writes beside its uploads, logs and caches, goes when it is started anew.
_MOST_UPLOADS = 500
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
    their_end, our_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", _CLIENT, "sync", *map(str, directories)],
        env=_environment(base_url, scratch, environ),
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


class Client:
    """W&B's client, started once for many uploads to one server, one after the other.

    It is started anew after an upload that it had trouble with, and ends when this process does.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._end = b""
        self._uploads = 0

    def upload(
        self,
        directories: Sequence[Path],
        *,
        base_url: str,
        timeout_s: float,
        is_hopeless: Callable[[], bool] = lambda: False,
    ) -> Upload:
        """Upload the transaction logs in ``directories``, as :func:`upload` does.

        The client tries again for days, with pauses that grow: it is ended when the time is up, and
        once it ``is_hopeless``, which is asked every second or so while nothing is said.
        """
        process = self._process or self._start(base_url)
        self._uploads += 1
        deadline = time.monotonic() + timeout_s
        output, timed_out = b"", False
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has ended, and has said why
                process.stdin.write(json.dumps(["sync", *map(str, directories)]).encode() + b"\n")
                process.stdin.flush()
            while self._end not in output and not timed_out:
                if (more := self._said(deadline)) == b"":
                    break
                output += more or b""
                timed_out = time.monotonic() > deadline or (more is None and is_hopeless())
            has_ended = self._end not in output
        except BaseException:
            self.close()
            raise
        complaint = _complaint(output.replace(self._end, b""))
        if has_ended and not timed_out and complaint is None:
            complaint = "the client has ended"
        assert self._scratch is not None
        retried = _retried(Path(self._scratch.name)) if timed_out else None
        if complaint or timed_out or self._uploads >= _MOST_UPLOADS:
            self.close()
        return Upload(complaint, timed_out, shared=len(directories) > 1, retried=retried)

    def close(self) -> None:
        """End the client, whatever it does."""
        if self._process is not None:
            self._process.kill()
            _rest(self._process)
            self._process = None
        if self._scratch is not None:
            with contextlib.suppress(OSError):
                self._scratch.cleanup()
            self._scratch = None

    def _start(self, base_url: str) -> subprocess.Popen[bytes]:
        self._scratch = tempfile.TemporaryDirectory(prefix="wandbkeras-client-")
        self._end = secrets.token_hex(16).encode()
        self._uploads = 0
        scratch = Path(self._scratch.name)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _KEPT_CLIENT, self._end.decode()],
            env=_environment(base_url, scratch, None),
            cwd=scratch,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self._process

    def _said(self, deadline: float) -> bytes | None:
        """Return what the client prints; None if nothing comes for a moment, nothing at its end."""
        assert self._process is not None and self._process.stdout is not None
        output = self._process.stdout.fileno()
        wait_s = max(0.0, min(deadline - time.monotonic(), _SILENT_SECONDS))
        return os.read(output, 1 << 16) if select.select([output], [], [], wait_s)[0] else None


def _environment(base_url: str, scratch: Path, environ: Mapping[str, str] | None) -> dict[str, str]:
    """Return the environment of a client that writes nothing outside of ``scratch``."""
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
    return env


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
