"""The process through which a console passes: to where it went before, and into the run.

It is a process of its own so that what was printed still reaches the user, and the run, when the
program is killed, crashes or calls ``os._exit``; and so that native code which prints while it
holds Python's lock never waits for Python. It ends when nobody is left who could print.

What is printed is passed on first, unchanged; recording is done by another thread, which may fall
behind or fail without anybody noticing but the numbers of the lines.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import fcntl
import itertools
import os
import queue
import select
import signal
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wandbkeras.context.masking import Masking
from wandbkeras.context.relay_messages import ALIVE, BROKEN, DONE, HEARTBEAT_S, pid_message
from wandbkeras.context.screen import Screen
from wandbkeras.store.console import ConsoleFiles, Line, Stream
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout

# A line that is still being written, as a progress bar, is recorded so often.
_UNFINISHED_S = 5.0
_CHUNK = 1 << 16
_BUNDLE = 1 << 20
_QUEUE = 256
_PATIENCE_S = 1.0
# How long a terminal's bytes may take from one end to the other.
_PTY_MS = 20
# Those by which a shell, a scheduler or a user ends or stops the program: it decides what it does.
_IGNORED = ("SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGTSTP", "SIGTTOU", "SIGUSR1", "SIGUSR2")


@dataclass(frozen=True)
class Source:
    """What is printed on ``stream`` comes from ``fd`` and goes on to ``target``, if to anything."""

    stream: Stream
    fd: int
    target: int | None
    is_pty: bool


class Recording:
    """Records what the sources bring, in a thread of its own."""

    def __init__(self, files: ConsoleFiles, masking: Masking) -> None:
        self._files = files
        self._masking = masking
        numbers = itertools.count()
        names: tuple[Stream, ...] = ("stdout", "stderr")
        self._screens = {name: Screen(numbers) for name in names}
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {name: decoder(errors="replace") for name in names}
        self._numbers = numbers
        self._queue: queue.Queue[tuple[Stream, bytes] | None] = queue.Queue(_QUEUE)
        self._is_stuck = False
        self._missed = 0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def take(self, stream: Stream, data: bytes) -> None:
        """Record what was printed; while the disk does not answer, only its lines are counted."""
        try:
            self._queue.put((stream, data), timeout=0 if self._is_stuck else _PATIENCE_S)
        except queue.Full:
            self._is_stuck = True
            self._missed += data.count(b"\n")

    def close(self) -> None:
        """Return when all is recorded and survives a power cut."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        whole_at = time.monotonic() + _UNFINISHED_S
        waiting = 0
        while True:
            try:
                item = self._queue.get(timeout=_UNFINISHED_S)
            except queue.Empty:
                item = ("stdout", b"")
            if item is None:
                self._record(whole=True, last=True)
                return
            stream, data = item
            self._is_stuck = False
            missed, self._missed = self._missed, 0
            next(itertools.islice(self._numbers, missed, missed), None)
            self._screens[stream].write(self._decoders[stream].decode(data))
            waiting += len(data)
            whole = time.monotonic() >= whole_at
            if whole or waiting > _BUNDLE or self._queue.empty():
                self._record(whole=whole)
                waiting = 0
            if whole:
                whole_at = time.monotonic() + _UNFINISHED_S

    def _record(self, *, whole: bool, last: bool = False) -> None:
        now = time.time()
        hide = self._masking.hide_unfinished if whole and not last else self._masking.hide
        found = [
            Line(number, stream, now, hide(text))
            for stream, screen in self._screens.items()
            for number, text in screen.take_changed(whole=whole)
        ]
        found.sort(key=lambda line: line.number)
        try:
            if found:
                self._files.write(found)
            if last:
                self._files.sync()
                self._files.close()
        except OSError:
            pass  # a full disk: the numbers tell how much is missing


class Relay:
    """Passes on what ``sources`` bring, and tells the program by ``lifeline`` how it goes.

    The program closes ``control`` when it has printed its last, or its death does.
    """

    def __init__(
        self, sources: Sequence[Source], recording: Recording, control: int, lifeline: int
    ) -> None:
        self._sources = sources
        self._recording = recording
        self._control = control
        self._lifeline = lifeline
        self._records = True

    def run(self) -> None:
        """Return when nobody is left who could print."""
        self._tell(pid_message(os.getpid()))
        # What goes to one place is read by one thread, so that it stays in order; but what goes
        # nowhere must not keep the rest waiting.
        places: dict[Any, list[Source]] = {}
        for source in self._sources:
            places.setdefault(_place(source.target), []).append(source)
        drained = [threading.Event() for _ in places]
        threads = [
            threading.Thread(target=self._pass_on, args=(found, event), daemon=True)
            for found, event in zip(places.values(), drained, strict=True)
        ]
        for thread in threads:
            thread.start()
        for event in drained:
            while not event.wait(HEARTBEAT_S):
                self._tell(ALIVE)
        self._records = False
        self._recording.close()
        self._tell(DONE)
        for thread in threads:
            thread.join()

    def _pass_on(self, sources: Sequence[Source], drained: threading.Event) -> None:
        """Pass on what comes; ``drained`` is set when all that the program has printed has come."""
        poll = select.poll()
        by_fd = {source.fd: source for source in sources}
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        poll.register(self._control, 0)  # only that it is closed
        has_ended = False
        while by_fd:
            wait = None if drained.is_set() or not has_ended else _PTY_MS
            ready = poll.poll(wait)
            if has_ended and not ready:
                drained.set()
            for fd, _ in sorted(ready):
                if fd == self._control:
                    has_ended = True
                    poll.unregister(fd)
                elif not self._pass_piece(by_fd[fd]):
                    poll.unregister(fd)
                    del by_fd[fd]
        drained.set()

    def _pass_piece(self, source: Source) -> bool:
        """Pass on what is there; False if nothing can come any more."""
        try:
            data = os.read(source.fd, _CHUNK)
        except OSError as error:
            if error.errno != errno.EIO:  # how Linux says that the terminal's other end is closed
                raise
            return False
        if not data:
            return False
        if source.target is not None:
            self._forward(source, data)
        if self._records:
            self._recording.take(source.stream, data)
        return True

    def _forward(self, source: Source, data: bytes) -> None:
        assert source.target is not None
        view = memoryview(data)
        try:
            while view:
                view = view[_write(source.target, view) :]
        except OSError as error:
            # A terminal that is gone takes no more, and a training needn't know. But the reader of
            # a pipe that has seen enough ends the program: it is told to print there itself.
            if error.errno != errno.EIO:
                self._tell(BROKEN[source.stream])

    def _tell(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # the program is gone
            os.write(self._lifeline, message)


def _write(fd: int, data: memoryview) -> int:
    while True:
        try:
            return os.write(fd, data)
        except BlockingIOError:
            select.select([], [fd], [])


def _place(target: int | None) -> Any:
    if target is None:
        return None
    found = os.fstat(target)
    return found.st_dev, found.st_ino, found.st_rdev


def _follow_size(sources: Sequence[Source]) -> None:
    """Give each terminal of ours the size of the one that it stands for."""
    for source in sources:
        if source.is_pty and source.target is not None:
            try:
                size = fcntl.ioctl(source.target, termios.TIOCGWINSZ, bytes(8))
                fcntl.ioctl(source.fd, termios.TIOCSWINSZ, size)
            except OSError:
                pass  # the terminal is gone


def main(given: Mapping[str, Any]) -> None:
    """Be the relay that ``given``, what :mod:`wandbkeras.context.console` says, describes."""
    for name in _IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if os.fork():  # it is nobody's child: whoever waits for all children does not wait for it
        os._exit(0)
    os.chdir("/")
    sources = [Source(*source) for source in given["sources"]]
    signal.signal(signal.SIGWINCH, lambda *_: _follow_size(sources))
    files = ConsoleFiles(
        Disk(), Layout(Path(given["run"])), given["attempt"], given["writer"], given["max_bytes"]
    )
    recording = Recording(files, Masking(os.environ))
    Relay(sources, recording, given["control"], given["lifeline"]).run()
