"""The ways on which the streams of a program lead to the relay of its console."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
import termios
from dataclasses import dataclass
from typing import Literal, TextIO

from wandbkeras.context.wrapping import Wrapping
from wandbkeras.store.disk import beside_standard

Mode = Literal["auto", "wrap"]
NAMES = ("stdout", "stderr")
# A pipe that takes as much never lets a program wait for the relay to start.
_PIPE_BYTES = 1 << 20


@dataclass
class Channel:
    """The way of one stream to the relay. ``saved`` is where its descriptor led before; a stream
    that is wrapped has none."""

    name: str
    near: int
    far: int
    saved: int | None = None
    is_pty: bool = False
    wrapping: Wrapping | None = None
    identity: tuple[int, int] | None = None

    @property
    def descriptor(self) -> int:
        return 1 + NAMES.index(self.name)

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
            close(self.near)
        elif self.saved is not None:
            with contextlib.suppress(OSError):  # the program has closed it
                found = os.fstat(self.descriptor)
                if (found.st_dev, found.st_ino) == self.identity:
                    os.dup2(self.saved, self.descriptor)

    def close(self) -> None:
        """Close what is left, once the stream is where it was before."""
        close(self.far)
        if self.saved is not None:
            close(self.saved)
            if self.identity is None:  # nothing led here
                close(self.near)


class NotThereError(Exception):
    """The stream leads nowhere."""


def open_channel(mode: Mode, name: str) -> Channel:
    """Make the way of a stream to the relay; nothing leads there yet."""
    descriptor = 1 + NAMES.index(name)
    stream: TextIO | None = getattr(sys, name)
    if mode == "auto" and (stream is None or _is_on(stream, descriptor)):
        with contextlib.suppress(OSError):
            saved = beside_standard(os.dup(descriptor))
            if not os.isatty(descriptor):
                far, near = _pipe()
                return Channel(name, near, far, saved)
            try:
                far, near = _terminal_like(descriptor)
                return Channel(name, near, far, saved, is_pty=True)
            except OSError:  # there are no more of them
                os.close(saved)
    if stream is None:
        raise NotThereError
    far, near = _pipe()
    os.set_blocking(near, False)
    try:
        return Channel(name, near, far, wrapping=Wrapping(stream, near))
    except AttributeError:  # a stream of a class of its own, that takes no attributes
        os.close(far)
        os.close(near)
        raise NotThereError from None


def _is_on(stream: TextIO, descriptor: int) -> bool:
    try:
        return stream.fileno() == descriptor
    except (OSError, AttributeError, ValueError):
        return False


def _pipe() -> tuple[int, int]:
    far, near = map(beside_standard, os.pipe())
    with contextlib.suppress(OSError, AttributeError):  # not for everyone, and on Linux only
        fcntl.fcntl(near, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return far, near


def _terminal_like(descriptor: int) -> tuple[int, int]:
    """Return both ends of a terminal like that at ``descriptor``, which passes on all as it is."""
    far, near = map(beside_standard, os.openpty())
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


def pass_on(fd: int, target: int | None) -> bool:
    """Write what is at ``fd`` to ``target``; False if nothing can come any more."""
    try:
        data = os.read(fd, 1 << 16)
        view = memoryview(data)
        while view and target is not None:
            view = view[os.write(target, view) :]
    except OSError as error:
        return error.errno == errno.EAGAIN
    return bool(data)


def close(fd: int) -> None:
    with contextlib.suppress(OSError):  # the program has closed it
        os.close(fd)
