"""Live mode at the side of the training: a process beside it is started, heard and waited for.

Nothing here reads a network or imports wandb, and nothing that happens to that process reaches the
training: what is recorded is recorded.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

import wandbkeras
from wandbkeras.context.interpreter import interpreter
from wandbkeras.store.layout import Layout
from wandbkeras.store.live import LOG_NAME, LiveState, write_live

if TYPE_CHECKING:
    from wandbkeras.recording.recorder import Run

# What the uploader takes to end when its time is up.
_GRACE_S = 10.0
_GLANCE_S = 0.5
# One that was killed is started again after so long each time, and then no more: what kills it may
# need what it takes.
_PAUSES_S = (10.0, 60.0, 600.0)
# The package may have been found by a path of the program's own.
_PROGRAM = (
    "import sys; sys.path.append(sys.argv.pop(1)); from wandbkeras_cli.main import main; main()"
)


def start_uploader(run: Run, timeout_s: float) -> None:
    """Begin to upload the run while it is recorded; returns at once, and never fails.

    Of several processes of an attempt the first one does it for all.
    """
    if run.dir is None or not run.began_attempt:
        return
    uploader = LiveUploader(Path(run.dir), timeout_s)
    uploader.say_url(_url(run))
    if uploader.start():
        run.after_finish(uploader.finish)


class LiveUploader:
    """The process that uploads the run in ``directory``; it gets ``timeout_s`` after the run."""

    def __init__(self, directory: Path, timeout_s: float) -> None:
        self._directory = directory
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._reader = threading.Thread(target=self._attend, daemon=True)
        self._state = LiveState("starting")
        self._url: str | None = None
        self._in_trouble = False
        self._lost = False
        self._finishing = threading.Event()
        # Set when no more is to be heard; no process is started then, which the lock sees to.
        self._over = threading.Event()
        self._starting = threading.Lock()

    @property
    def command(self) -> str:
        """What sends the rest of the run."""
        return f"wandbkeras sync {shlex.quote(str(self._directory))}"

    def start(self) -> bool:
        """Start the process; False, having said why, if there can be none."""
        reason = "wandb is not installed here"
        if _is_installed("wandb"):
            try:
                self._process = self._spawn()
                self._reader.start()
            except (OSError, RuntimeError) as error:  # no memory, no process, no thread
                reason = str(error)
                self._end()
            else:
                os.register_at_fork(after_in_child=self._forget)
                return True
        write_live(Layout(self._directory).receipts, LiveState("not started", error=reason))
        _say(f"{reason}: the run is recorded offline; send it later with `{self.command}`")
        return False

    def finish(self) -> None:
        """Wait until all has arrived or the time is up, and say which.

        An interrupt ends the waiting, and is passed on.
        """
        if self._process is None:
            return
        self._finishing.set()
        self._say_gone()
        try:
            with _progress() as show:
                self._wait(show)
        finally:
            if not self._over.is_set():
                self._end()
            self._say_end()

    def _say_gone(self) -> None:
        """Tell the process that the training has ended."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def _wait(self, show: Any) -> None:
        left_s = self._timeout_s + _GRACE_S
        while left_s > 0 and not self._over.wait(_GLANCE_S):
            left_s -= _GLANCE_S
            pending = "" if self._state.pending is None else f", {self._state.pending} are left"
            show(f"waiting for W&B: {self._state.rows} rows are verified{pending}")

    def _say_end(self) -> None:
        state = self._state
        if state.arrived:
            _say(f"verified: {state.rows} rows and all else ({state.run_state}) at {state.url}")
            if state.not_sent:
                where = shlex.quote(str(self._directory))
                _say(f"W&B does not take all of it: `wandbkeras status {where}` says what")
            return
        left = "the rest is" if state.pending is None else f"{state.pending} rows are"
        reason = state.error or f"the {self._timeout_s:g} s are over"
        if self._lost:
            reason = "the uploader was ended"
        elif state.error is None and state.phase == "ended" and state.run_state == "running":
            reason = "another process records it, too"
        _say(
            f"{left} not verified in W&B yet, and {state.rows} rows are: {reason}: all is "
            f"recorded, complete it with `{self.command}`"
        )

    def _spawn(self) -> subprocess.Popen[bytes]:
        root = str(Path(wandbkeras.__file__).parents[1])
        arguments = ["live", str(self._directory), "--timeout", str(self._timeout_s)]
        with self._log() as log:
            return subprocess.Popen(
                [interpreter(), "-c", _PROGRAM, root, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                # Ctrl-C on the terminal is for the training.
                start_new_session=True,
            )

    def _log(self) -> IO[bytes]:
        receipts = Layout(self._directory).receipts
        try:
            receipts.mkdir(exist_ok=True)
            return (receipts / LOG_NAME).open("wb")
        except OSError:
            return Path(os.devnull).open("wb")

    def _attend(self) -> None:
        """Listen to the process; when it was killed, start another one, at the end at once."""
        pauses = iter(_PAUSES_S)
        while True:
            code = self._listen()
            if self._over.is_set():
                return
            # What ended by itself would end again.
            pause_s = next(pauses, None) if code < 0 and not self._finishing.is_set() else None
            if not self._finishing.is_set():
                self._say_ended(code, pause_s)
            if pause_s is None:
                break
            self._finishing.wait(pause_s)
            try:
                if not self._restart():
                    return
            except OSError:
                break
        self._lost = True
        self._over.set()

    def _listen(self) -> int:
        """Take in what the process says until it ends; return its exit status."""
        assert self._process is not None and self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with suppress(ValueError, TypeError):
                    self._hear(LiveState(**json.loads(line)))
        return self._process.wait()

    def _restart(self) -> bool:
        """Start the process again; False if there is nothing left to do."""
        with self._starting:
            if self._over.is_set():
                return False
            self._process = self._spawn()
        if self._finishing.is_set():
            self._say_gone()
        return True

    def _say_ended(self, code: int, pause_s: float | None) -> None:
        then = f"send the run later with `{self.command}`"
        if pause_s is not None:
            then = f"it is started again in {pause_s:g} s, or when the run ends"
        _say(
            f"the uploader has ended (exit status {code}{self._last_words()}): training and "
            f"recording go on; {then}"
        )

    def _hear(self, state: LiveState) -> None:
        self._state = state
        if state.phase == "ended":
            self._over.set()
        self.say_url(state.url)
        if state.phase == "waiting" and not self._in_trouble and not self._finishing.is_set():
            self._in_trouble = True
            _say(f"{state.error}: training and recording go on, and it is tried again")
        elif state.phase == "following" and self._in_trouble:
            self._in_trouble = False
            _say(f"goes on: {state.rows} rows are verified")

    def say_url(self, url: str | None) -> None:
        """Say where the run is, once."""
        if url is not None and url != self._url:
            self._url = url
            _say(f"the run is at {url}")

    def _last_words(self) -> str:
        with suppress(OSError):
            log = Layout(self._directory).receipts / LOG_NAME
            lines = log.read_text(errors="replace").split("\n")
            return "".join(f": {line[:300]}" for line in [line for line in lines if line][-1:])
        return ""

    def _end(self) -> None:
        """Be rid of the process, whatever it does."""
        with self._starting:
            self._over.set()
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def _forget(self) -> None:
        """Be a child that was forked, whose copy of the pipe would keep the uploader waiting."""
        self._say_gone()
        self._process = None


def _url(run: Run) -> str | None:
    """Return where the run will be, if that is known without asking a server."""
    server = os.environ.get("WANDB_BASE_URL", "").rstrip("/")
    if not server or not run.entity:
        return None
    place = "/".join(quote(part) for part in (run.entity, run.project or "uncategorized"))
    return f"{server.replace('//api.wandb.ai', '//wandb.ai')}/{place}/runs/{quote(run.id)}"


def _is_installed(name: str) -> bool:
    """Whether there is such a package; a directory of that name, as wandb makes, is none."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return found is not None and found.origin is not None


@contextmanager
def _progress() -> Iterator[Any]:
    """Show what is waited for, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status("waiting for W&B") as status:
        yield status.update


def _say(text: str) -> None:
    with suppress(OSError, ValueError):  # nobody is there to hear it any more
        print(f"wandbkeras: live: {text}", file=sys.stderr)  # noqa: T201
