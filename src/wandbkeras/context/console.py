"""What this process and its children print goes through a relay, which passes it on and records it.

The descriptors 1 and 2 lead to the relay, so native code and children are captured too: through a
pseudo-terminal where there was a terminal, else through a pipe. A stream of Python's that is on
neither, as in a notebook or under pytest, has its ``write`` wrapped. Whatever becomes of the relay,
the program goes on printing where it did before.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wandbkeras.context.channels import (
    NAMES,
    Channel,
    Mode,
    NotThereError,
    close,
    open_channel,
    pass_on,
)
from wandbkeras.context.interpreter import interpreter
from wandbkeras.context.relay_messages import BROKEN, DONE, HEARTBEAT_S, pid_in
from wandbkeras.store.disk import beside_standard

_BOOT = (
    "import json, sys\n"
    "given = json.loads(sys.argv[1])\n"
    "sys.path[:] = given['path']\n"
    "from wandbkeras.context.relay import main\n"
    "main(given)\n"
)
# A relay that was stopped, or that has no processor, is given up after so many heartbeats.
_MISSES = 5
_START_S = 60.0
_PATIENCE_S = 10.0
_WAIT_MS = 1_000


class Console:
    """Records what is printed, from its making on until it is stopped, into the run at ``run``.

    ``report`` is told what is not recorded, and why; nothing is raised.
    """

    def __init__(
        self,
        mode: Mode,
        run: Path,
        attempt: int,
        writer: int,
        max_bytes: int,
        report: Callable[[str, str], None],
    ) -> None:
        self._report = report
        self._channels: list[Channel] = []
        self._control = self._lifeline = -1
        self._done = threading.Event()
        self._stopping = threading.Event()
        self._owner = os.getpid()
        self._watcher = threading.Thread(target=self._watch, name="wandbkeras-console", daemon=True)
        given = {
            "path": [str(Path(entry).resolve()) for entry in sys.path if isinstance(entry, str)],
            "run": str(run.resolve()),
            "attempt": attempt,
            "writer": writer,
            "max_bytes": max_bytes,
        }
        try:
            self._begin(mode, given)
        except (OSError, RuntimeError) as error:  # no more descriptors, processes or threads
            self._restore()
            self._close("_control")
            self._close("_lifeline")
            self._close_channels()
            self._say(str(error))
        _watch_forks()
        _consoles.add(self)

    def stop(self) -> None:
        """Return when all that was printed is passed on and recorded."""
        if self._owner != os.getpid():
            return
        _flush()
        self._stopping.set()
        self._restore()
        self._close("_control")
        if self._watcher.is_alive():
            self._done.wait(_PATIENCE_S)
            self._watcher.join(_PATIENCE_S)
        if self._watcher.is_alive():
            self._say(f"it took more than {_PATIENCE_S:.0f} s to record the end of it")
            return  # its descriptors are in use
        self._close("_lifeline")
        self._close_channels()

    def forget(self) -> None:
        """Let a forked child print to its parent's relay, and to nobody if that is gone."""
        self._close("_control")
        self._close("_lifeline")
        for channel in self._channels:
            close(channel.far)

    def _begin(self, mode: Mode, given: dict[str, Any]) -> None:
        for name in NAMES:
            with contextlib.suppress(NotThereError):
                self._channels.append(open_channel(mode, name))
        if not self._channels:
            return
        control, self._control = map(beside_standard, os.pipe())
        self._lifeline, lifeline = map(beside_standard, os.pipe())
        given |= {
            "control": control,
            "lifeline": lifeline,
            "sources": [[c.name, c.far, c.saved, c.is_pty] for c in self._channels],
        }
        passed = [control, lifeline]
        passed += [fd for c in self._channels for fd in (c.far, c.saved) if fd is not None]
        try:
            self._process = subprocess.Popen(
                [interpreter(), "-I", "-S", "-c", _BOOT, json.dumps(given)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=passed,
            )
        finally:
            os.close(control)
            os.close(lifeline)
        self._watcher.start()
        _flush()
        for channel in self._channels:
            channel.install()

    def _watch(self) -> None:
        """Listen to the relay until all is recorded; if it dies or stops, do without it."""
        try:
            self._listen()
        except OSError as error:  # the program has closed what is not its own
            self._done.set()
            self._say(str(error))

    def _listen(self) -> None:
        try:
            self._process.wait(_START_S)  # it leaves a child of its own behind
        except subprocess.TimeoutExpired:
            self._process.kill()
        pid = None
        poll = select.poll()
        poll.register(self._lifeline, select.POLLIN)
        misses = 0
        while misses < _MISSES:
            if not poll.poll(HEARTBEAT_S * 1_000):
                misses += 1
                continue
            misses = 0
            said = os.read(self._lifeline, 64)
            pid = pid or pid_in(said)
            for channel in self._channels:
                if BROKEN[channel.name] in said:
                    channel.restore()
            if DONE in said:
                self._done.set()
                return
            if not said:
                pid = None
                break
        if pid is not None:
            # Else what it would still pass on had no end for whoever reads it.
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self._do_without()

    def _do_without(self) -> None:
        """Print as before, and pass on what was printed and is still on its way."""
        self._restore()
        self._say("the process that records it has ended or does not answer")
        self._done.set()
        open_channels = [c for c in self._channels if c.saved is not None]
        poll = select.poll()
        for channel in open_channels:
            poll.register(channel.far, select.POLLIN)
        by_fd = {channel.far: channel for channel in open_channels}
        while by_fd:
            ready = poll.poll(0 if self._stopping.is_set() else _WAIT_MS)
            if not ready and self._stopping.is_set():
                return
            for fd, _ in ready:
                if not pass_on(fd, by_fd[fd].saved):
                    poll.unregister(fd)
                    del by_fd[fd]

    def _restore(self) -> None:
        for channel in self._channels:
            channel.restore()

    def _close_channels(self) -> None:
        for channel in self._channels:
            channel.close()
        self._channels = []

    def _close(self, name: str) -> None:
        fd = getattr(self, name)
        if fd >= 0:
            setattr(self, name, -1)
            close(fd)

    def _say(self, reason: str) -> None:
        print(f"wandbkeras: the console is not recorded: {reason}", file=sys.stderr)  # noqa: T201
        self._report("console", reason)


# Those of this process, for its children.
_consoles: weakref.WeakSet[Console] = weakref.WeakSet()


def _forget_in_child() -> None:
    for console in list(_consoles):
        console.forget()
    _consoles.clear()


@functools.cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=_forget_in_child)


def _flush() -> None:
    """Let what was printed so far, in Python and in C, go where it leads now."""
    for name in NAMES:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            getattr(sys, name).flush()
    ctypes = sys.modules.get("ctypes")
    if ctypes is None:
        return  # nothing native prints in this process
    # Not all of C's streams: a thread that reads from one of them holds it.
    for symbol in ("stdout", "stderr"):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            library = ctypes.CDLL(None)
            library.fflush(ctypes.c_void_p.in_dll(library, symbol))
