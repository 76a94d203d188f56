"""W&B's writing side: the one module that runs ``wandb sync``.

Its exit status and its markers prove nothing, so none of them is looked at: what it prints is kept
to name a cause, and reading back decides. A :class:`Client` is started while there is still
something else to do, and kept for many uploads, since a start takes longer than sending a few rows.
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
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# `python -m wandb` again and again, for each line of standard input; a line of its own says that it
# can begin, and that one has ended. It ends when the process that started it does, however that
# happens: then the other end of the pipe that is standard input here closes. If it is sending then,
# it ends at once, else it has time to remove what it made in the directory for temporary files.
_CLIENT = """
import json, os, queue, sys, threading, traceback

import wandb
from wandb.cli.cli import cli

lines = queue.SimpleQueue()
is_sending = False

def listen():
    for line in sys.stdin:
        lines.put(line)
    if is_sending:
        os._exit(1)
    lines.put("null")

threading.Thread(target=listen, daemon=True).start()
try:
    wandb.setup()  # the service behind it, so that an upload begins at once
except Exception:
    pass  # the upload will say it
while True:
    print(sys.argv[1], flush=True)
    if (arguments := json.loads(lines.get())) is None:
        break
    is_sending = True
    try:
        cli(arguments, standalone_mode=False)
    except (Exception, SystemExit):
        traceback.print_exc()
    sys.stderr.flush()
    is_sending = False
"""
_END_SECONDS = 10.0
# What wandb's log says when an answer was an error after which it asks again, by itself for ever,
# and when it was one after which it gives up.
_AGAIN = "api: retrying HTTP error"
_REFUSED = "api: HTTP error"
_SILENT_SECONDS = 1.0
# What the client writes beside its uploads, logs and caches, goes when it is started anew.
_MOST_UPLOADS = 500
# A line of wandb's about an error, or the last one of a traceback; names of runs are no trouble.
_TROUBLE = re.compile(r"(?:wandb: )?\s*(?:ERROR|[\w.]*Error:)\s+(.+)")


@dataclass(frozen=True)
class Upload:
    """What the client said: ``complaint`` is its first line about trouble, if any.

    ``shared`` by several runs, any of which may be meant. ``retried`` is the error that the server
    answered last, after which the client asked again. ``refusals`` are the first errors, by the
    directories that were uploaded, after which it gave up, which it prints of few.
    """

    complaint: str | None
    timed_out: bool
    shared: bool = False
    retried: str | None = None
    refusals: Mapping[Path, str] = field(default_factory=dict)


class Client:
    """W&B's client, started once for many uploads to the server ``base_url``, one after the other.

    It is started anew after an upload that it had trouble with, and ends when this process does.
    Credentials and settings are its own (``~/.netrc``, ``WANDB_API_KEY``, …).
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._mark = b""
        self._said = b""
        self._uploads = 0

    def start(self) -> None:
        """Let it start, if it isn't there, while something else is done."""
        if self._process is not None:
            return
        # Takes what it writes beside: logs, caches.
        self._scratch = tempfile.TemporaryDirectory(prefix="wandbkeras-client-")
        self._mark = secrets.token_hex(16).encode() + b"\n"
        self._said, self._uploads = b"", 0
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CLIENT, self._mark.decode().strip()],
            env=_environment(self._base_url, Path(self._scratch.name)),
            cwd=self._scratch.name,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def await_start(self, timeout_s: float) -> None:
        """Return when an upload would begin at once, or never: then the upload says why."""
        self.start()
        self._await(time.monotonic() + timeout_s, lambda: False)

    def upload(
        self,
        directories: Sequence[Path],
        *,
        timeout_s: float,
        is_hopeless: Callable[[], bool] = lambda: False,
    ) -> Upload:
        """Upload the transaction logs in ``directories``; return what the client said.

        The client tries again for days, with pauses that grow: it is ended when the time is up, and
        once it ``is_hopeless``, which is asked every second or so while nothing is said.
        """
        began, deadline = time.time(), time.monotonic() + timeout_s
        self.start()
        try:
            timed_out = self._await(deadline, is_hopeless)
            if not timed_out:
                self._begin(directories)
                timed_out = self._await(deadline, is_hopeless)
        except BaseException:
            self.close()
            raise
        complaint = _complaint(self._said.replace(self._mark, b""))
        if complaint is None and not timed_out and self._mark not in self._said:
            complaint = "the client has ended"
        said = Upload(complaint, timed_out, shared=len(directories) > 1)
        for error in self._errors(began):
            if error.get("msg") == _AGAIN and timed_out:
                said = replace(said, retried=_answer(error))
            elif error.get("msg") == _REFUSED:
                directory = Path(str(error.get("sync_path"))).parent
                refusals = {directory: _answer(error), **said.refusals}
                said = replace(said, refusals=refusals)
        if complaint or timed_out or self._uploads >= _MOST_UPLOADS:
            self.close()
        return said

    def close(self) -> None:
        """End the client, whatever it does."""
        if self._process is not None:
            if not self._is_sending:
                assert self._process.stdin is not None
                self._process.stdin.close()
                self._process.stdin = None
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_END_SECONDS)
            self._process.kill()
            _rest(self._process)
            self._process = None
        if self._scratch is not None:
            with contextlib.suppress(OSError):
                self._scratch.cleanup()
            self._scratch = None

    @property
    def _is_sending(self) -> bool:
        return self._uploads > 0 and self._mark not in self._said

    def _begin(self, directories: Sequence[Path]) -> None:
        """Tell it what to upload, if it hasn't ended."""
        assert self._process is not None and self._process.stdin is not None
        if self._mark not in self._said:
            return
        self._said = b""
        self._uploads += 1
        with contextlib.suppress(BrokenPipeError):  # it has ended since, and has said why
            self._process.stdin.write(json.dumps(["sync", *map(str, directories)]).encode() + b"\n")
            self._process.stdin.flush()

    def _await(self, deadline: float, is_hopeless: Callable[[], bool]) -> bool:
        """Hear it until it can begin another upload or has ended; return True if it is given up."""
        while self._mark not in self._said:
            if (more := self._hear(deadline)) == b"":
                return False
            self._said += more or b""
            if time.monotonic() > deadline or (more is None and is_hopeless()):
                return True
        return False

    def _errors(self, began: float) -> Iterator[dict[str, Any]]:
        """Yield what it has logged of errors that the server answered since then."""
        assert self._scratch is not None
        for path in sorted(Path(self._scratch.name).glob("wandb/logs/*.log")):
            if path.stat().st_mtime < began - 1:
                continue
            for line in path.read_text(errors="replace").splitlines():
                if _AGAIN in line or _REFUSED in line:
                    with contextlib.suppress(ValueError):  # a line that was being written
                        yield json.loads(line)

    def _hear(self, deadline: float) -> bytes | None:
        """Return what the client prints; None if nothing comes for a moment, nothing at its end."""
        assert self._process is not None and self._process.stdout is not None
        output = self._process.stdout.fileno()
        wait_s = max(0.0, min(deadline - time.monotonic(), _SILENT_SECONDS))
        return os.read(output, 1 << 16) if select.select([output], [], [], wait_s)[0] else None


def _environment(base_url: str, scratch: Path) -> dict[str, str]:
    """Return the environment of a client that writes nothing outside of ``scratch``."""
    env = {
        **os.environ,
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


def _answer(error: Mapping[str, Any]) -> str:
    """Return what a server answered; what follows the path of a URL may be a credential.

    >>> _answer({"status": 403, "url": "https://example.org/a?signature=5f0c"})
    'HTTP 403 from https://example.org/a'
    """
    return f"HTTP {error.get('status')} from {str(error.get('url')).partition('?')[0]}"
