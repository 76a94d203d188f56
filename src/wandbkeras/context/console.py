"""What this process and its children print goes through a relay, which passes it on and records it.

The descriptors 1 and 2 lead to the relay, so native code and children are captured too: through a
pseudo-terminal where there was a terminal, else through a pipe. A stream of Python's that is on
neither, as in a notebook or under pytest, has its ``write`` wrapped. Whatever becomes of the relay,
the program goes on printing where it did before.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import json
import os
import select
import signal
import subprocess
import sys
import termios
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from wandbkeras.context.relay_messages import BROKEN, DONE, HEARTBEAT_S, pid_in

Mode = Literal["auto", "wrap"]
_NAMES = ("stdout", "stderr")
_BOOT = (
    "import json, sys\n"
    "given = json.loads(sys.argv[1])\n"
    "sys.path[:] = given['path']\n"
    "from wandbkeras.context.relay import main\n"
    "main(given)\n"
)
# A pipe that takes as much never lets a program wait for the relay to start.
_PIPE_BYTES = 1 << 20
# A relay that was stopped, or that has no processor, is given up after so many heartbeats.
_MISSES = 5
_START_S = 60.0
_PATIENCE_S = 10.0
_WAIT_MS = 1_000


@dataclass
class _Channel:
    """The way of one stream to the relay. ``saved`` is where its descriptor led before; a stream
    that is wrapped has none."""

    name: str
    near: int
    far: int
    saved: int | None = None
    is_pty: bool = False
    wrapping: _Wrapping | None = None
    identity: tuple[int, int] | None = None

    @property
    def descriptor(self) -> int:
        return 1 + _NAMES.index(self.name)

    def install(self) -> None:
        """Lead the stream's descriptor here."""
        if self.saved is not None:
            found = os.fstat(self.near)
            self.identity = found.st_dev, found.st_ino
            os.dup2(self.near, self.descriptor)
            os.close(self.near)

    def restore(self) -> None:
        """Lead the stream to where it led before, unless somebody has led it elsewhere since."""
        if self.wrapping is not None:
            self.wrapping.remove()
            self.wrapping = None
            _close(self.near)
        elif self.saved is not None:
            with contextlib.suppress(OSError):  # the program has closed it
                found = os.fstat(self.descriptor)
                if (found.st_dev, found.st_ino) == self.identity:
                    os.dup2(self.saved, self.descriptor)

    def close(self) -> None:
        """Close what is left, once the stream is where it was before."""
        _close(self.far)
        if self.saved is not None:
            _close(self.saved)
            if self.identity is None:  # nothing led here
                _close(self.near)


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
        self._channels: list[_Channel] = []
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
            _close(channel.far)

    def _begin(self, mode: Mode, given: dict[str, Any]) -> None:
        for name in _NAMES:
            with contextlib.suppress(_NotThereError):
                self._channels.append(_channel(mode, name))
        if not self._channels:
            return
        control, self._control = os.pipe()
        self._lifeline, lifeline = os.pipe()
        given |= {
            "control": control,
            "lifeline": lifeline,
            "sources": [[c.name, c.far, c.saved, c.is_pty] for c in self._channels],
        }
        passed = [control, lifeline]
        passed += [fd for c in self._channels for fd in (c.far, c.saved) if fd is not None]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOT, json.dumps(given)],
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
                if not _pass_on(fd, by_fd[fd].saved):
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
            _close(fd)

    def _say(self, reason: str) -> None:
        print(f"wandbkeras: the console is not recorded: {reason}", file=sys.stderr)  # noqa: T201
        self._report("console", reason)


class _NotThereError(Exception):
    """The stream leads nowhere."""


# Those of this process, for its children.
_consoles: weakref.WeakSet[Console] = weakref.WeakSet()


def _forget_in_child() -> None:
    for console in list(_consoles):
        console.forget()
    _consoles.clear()


@functools.cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=_forget_in_child)


def _channel(mode: Mode, name: str) -> _Channel:
    """Make the way of a stream to the relay; nothing leads there yet."""
    descriptor = 1 + _NAMES.index(name)
    stream: TextIO | None = getattr(sys, name)
    if mode == "auto" and (stream is None or _is_on(stream, descriptor)):
        with contextlib.suppress(OSError):
            saved = os.dup(descriptor)
            if not os.isatty(descriptor):
                far, near = _pipe()
                return _Channel(name, near, far, saved)
            try:
                far, near = _terminal_like(descriptor)
                return _Channel(name, near, far, saved, is_pty=True)
            except OSError:  # there are no more of them
                os.close(saved)
    if stream is None:
        raise _NotThereError
    far, near = _pipe()
    os.set_blocking(near, False)
    try:
        return _Channel(name, near, far, wrapping=_Wrapping(stream, near))
    except AttributeError:  # a stream of a class of its own, that takes no attributes
        os.close(far)
        os.close(near)
        raise _NotThereError from None


def _close(fd: int) -> None:
    with contextlib.suppress(OSError):  # the program has closed it
        os.close(fd)


def _is_on(stream: TextIO, descriptor: int) -> bool:
    try:
        return stream.fileno() == descriptor
    except (OSError, AttributeError, ValueError):
        return False


def _pipe() -> tuple[int, int]:
    far, near = os.pipe()
    with contextlib.suppress(OSError, AttributeError):  # not for everyone, and on Linux only
        fcntl.fcntl(near, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return far, near


def _terminal_like(descriptor: int) -> tuple[int, int]:
    """Return both ends of a terminal like that at ``descriptor``, which passes on all as it is."""
    far, near = os.openpty()
    try:
        attributes = termios.tcgetattr(descriptor)
        attributes[1] &= ~termios.OPOST  # the terminal itself does that
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(near, termios.TCSANOW, attributes)
        fcntl.ioctl(far, termios.TIOCSWINSZ, fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(8)))
    except termios.error as error:
        os.close(far)
        os.close(near)
        raise OSError(*error.args) from error
    return far, near


class _Wrapping:
    """Lets what is written to a stream of Python's be written to ``fd`` too.

    IPython does the same for each cell, and puts back afterwards what was there before it. So it is
    done anew as each cell begins.
    """

    def __init__(self, stream: TextIO, fd: int) -> None:
        self._stream = stream
        self._fd = fd
        self._before: Any = None
        self._mine: Any = None
        self.install()
        self._shell = _shell()
        if self._shell is not None:
            self._shell.events.register("pre_run_cell", self.install)

    def install(self, *_: Any) -> None:
        """Wrap the stream's ``write``, unless it is; AttributeError if the stream has none of its
        own."""
        if self._mine is not None and vars(self._stream).get("write") is self._mine:
            return
        self._before, before = vars(self._stream).get("write"), self._stream.write

        def write(text: str, /) -> int:
            written = before(text)
            if isinstance(text, str):
                _offer(self._fd, text.encode(errors="replace"))
            return written

        try:
            self._stream.write = write  # type: ignore[method-assign]
        except TypeError as error:
            raise AttributeError(str(error)) from error
        self._mine = write

    def remove(self) -> None:
        if self._shell is not None:
            self._shell.events.unregister("pre_run_cell", self.install)
        if vars(self._stream).get("write") is not self._mine:
            return
        if self._before is None:
            del self._stream.write
        else:
            self._stream.write = self._before  # type: ignore[method-assign]


def _shell() -> Any:
    """Return the shell of the notebook that this is, if it is one."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def _offer(fd: int, data: bytes) -> None:
    """Write to the relay, unless it takes nothing for a second."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            if not poll.poll(_WAIT_MS):
                return
        except OSError:
            return


def _pass_on(fd: int, target: int | None) -> bool:
    """Write what is at ``fd`` to ``target``; False if nothing can come any more."""
    try:
        data = os.read(fd, 1 << 16)
        view = memoryview(data)
        while view and target is not None:
            view = view[os.write(target, view) :]
    except OSError as error:
        return error.errno == errno.EAGAIN
    return bool(data)


def _flush() -> None:
    """Let what was printed so far, in Python and in C, go where it leads now."""
    for name in _NAMES:
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
