"""Signals by which a scheduler says that it is about to end the job: the run is marked, then they
do what they would have done.

A handler runs between any two instructions of the main thread, which may hold the writer's lock or
be in the middle of a write. So ours only hands the signal to a thread of its own and returns: the
thread records, syncs to disk, and sends the signal to the main thread once more, to be passed on.
Nothing there waits for anything, so nothing can lock up.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from queue import SimpleQueue
from types import FrameType
from typing import Any

from wandbkeras.errors import UsageError, WandbkerasError
from wandbkeras.recording.recorder import Run

# What SLURM, Kubernetes and `kill` send to end a job, and what SLURM is usually told to warn with.
DEFAULT_SIGNALS = ("SIGTERM", "SIGUSR1")
VARIABLE = "WANDBKERAS_PREEMPT_SIGNALS"
# A disk that does not answer must not keep a job alive that was told to end.
PATIENCE_S = 5.0
_FIRST_PAUSE_S = 0.05
_UNCATCHABLE = ("SIGKILL", "SIGSTOP")


def resolve_signals(
    given: Iterable[str | int] | str | bool | None, environ: Mapping[str, str]
) -> tuple[int, ...]:
    """Return the numbers of the signals that mark a run, of ``init``'s argument or the environment.

    >>> resolve_signals(None, {}) == (signal.SIGTERM, signal.SIGUSR1)
    True
    >>> resolve_signals(False, {}), resolve_signals(None, {"WANDBKERAS_PREEMPT_SIGNALS": "off"})
    ((), ())
    >>> resolve_signals(["USR2"], {}) == (signal.SIGUSR2,)
    True
    """
    if given is None:
        given = environ.get(VARIABLE) or True
    if given is True:
        given = [name for name in DEFAULT_SIGNALS if hasattr(signal, name)]
    elif given is False or given == "off":
        given = ()
    elif isinstance(given, str):
        given = given.split(",")
    return tuple(dict.fromkeys(map(_number, given)))


def _number(given: Any) -> int:
    try:
        if isinstance(given, str):
            name = given.strip().upper()
            found = signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
        else:
            found = signal.Signals(given)
    except (KeyError, ValueError):
        raise UsageError(
            f"preempt_signals: received {given!r}; expected names of signals like SIGTERM and "
            "SIGUSR1, or off"
        ) from None
    if found.name in _UNCATCHABLE:
        raise UsageError(f"preempt_signals: received {found.name}, which no process is told of")
    return int(found)


class PreemptionWatch:
    """Marks ``run`` as preempting at each of ``signals``, from :meth:`start` to :meth:`stop`.

    Afterwards an earlier handler of the program's own is called. Without one, SIGTERM ends the
    process as ever; any other signal is taken for a warning that goes before, and training goes on.
    """

    def __init__(self, run: Run, signals: Iterable[int]) -> None:
        self._run = run
        self._signals = tuple(signals)
        self._pid = os.getpid()
        # Its `put` may interrupt itself: it is made for handlers.
        self._received: SimpleQueue[int | None] = SimpleQueue()
        self._recorded: set[int] = set()
        self._before: dict[int, Any] = {}
        self._is_stopped = False
        self._thread = threading.Thread(
            target=self._work, name="wandbkeras-preemption", daemon=True
        )

    def start(self) -> None:
        """Begin to watch; nothing happens but in the main thread, where alone Python allows it."""
        if not self._signals or threading.current_thread() is not threading.main_thread():
            return
        try:
            self._thread.start()
        except RuntimeError:  # the job may have no more threads: the signals do what they did
            return
        for number in self._signals:
            self._before[number] = signal.getsignal(number)
            signal.signal(number, self._receive)

    def stop(self) -> None:
        """Put the handlers back that were there before, unless somebody has replaced ours.

        What was received before is dealt with: a process that was told to end doesn't end well.
        """
        self._is_stopped = True
        self._received.put(None)
        if self._before:
            self._thread.join(2 * PATIENCE_S)
        if threading.current_thread() is threading.main_thread():
            for number, before in self._before.items():
                if signal.getsignal(number) == self._receive and before is not None:
                    signal.signal(number, before)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        # A forked child has the handler and no thread; and the run is not its own.
        if number in self._recorded or self._is_stopped or os.getpid() != self._pid:
            self._recorded.discard(number)
            self._pass_on(number, frame)
        else:
            self._received.put(number)

    def _work(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        while (number := self._received.get()) is not None:
            marking = threading.Thread(target=self._mark, args=(number,), daemon=True)
            with suppress(RuntimeError):  # no more threads
                marking.start()
                marking.join(PATIENCE_S)
            self._recorded.add(number)
            pause_s = _FIRST_PAUSE_S
            while number in self._recorded:
                # To this thread: it may wait in a system call, which that ends; unless it comes at
                # the very moment before, so it comes again.
                signal.pthread_kill(main, number)
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, 1.0)

    def _mark(self, number: int) -> None:
        with suppress(OSError, WandbkerasError):  # a full disk has been said and counted
            self._run.mark_preempting(signal.Signals(number).name)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        before = self._before[number]
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL and number == signal.SIGTERM:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
