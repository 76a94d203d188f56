"""``wandbkeras live``: the uploader that a run in live mode starts beside itself.

Standard input is a pipe of the training process, which closes when that ends, however it ends; what
is new goes to standard output, one JSON document a line, and is lost if nobody reads it.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import click

from wandbkeras.store.layout import Layout
from wandbkeras.store.live import LiveState, write_live

# How often is looked whether the parent is another process: a child of the training may hold the
# pipe open.
_GLANCE_SECONDS = 1.0
_LONGEST_TEXT = 2_000
# A signal that comes so soon after the end of the training is the one that has ended it.
_SAME_SIGNAL_SECONDS = 5.0
# At most a quarter of a processor that the training wants too. It needs a few hundredths; with much
# less, W&B's client would take minutes to start beside a training that takes all.
_NICENESS = 5
# Where memory runs out the system ends what has most of this, out of 1000: so much more than the
# training has, which will start this process again.
_OOM_SCORE, _MOST_OOM_SCORE = 500, 1000


@click.command(hidden=True)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--timeout", "timeout_s", type=float, required=True)
@click.option(
    "--on-rollback",
    envvar="WANDBKERAS_ON_ROLLBACK",
    type=click.Choice(["fail", "fresh-id"]),
    default="fail",
    show_default=True,
    show_envvar=True,
    help="What `wandbkeras sync --on-rollback` takes.",
)
@click.option(
    "--interval",
    "interval_s",
    envvar="WANDBKERAS_LIVE_INTERVAL",
    type=click.FloatRange(min=0.0, min_open=True),
    default=2.0,
    show_default=True,
    show_envvar=True,
    help="The seconds from an upload to the next one.",
)
def live(
    path: Path,
    timeout_s: float,
    on_rollback: Literal["fail", "fresh-id"],
    interval_s: float,
) -> None:
    """Upload the run at PATH until standard input closes, and the rest of it within --timeout.

    A run in live mode starts this beside itself.

    \b
    Example:
      wandbkeras live runs/run-20261123_054500-k3j9x2ab --timeout 60
    """
    parent = os.getppid()
    _give_way()
    end = _End()
    _obey_signals(end)
    threading.Thread(target=_wait_for_end, args=(parent, end, timeout_s), daemon=True).start()
    # wandb takes a second to import: the pipe is watched meanwhile.
    from wandbkeras.sync.live import Uploader
    from wandbkeras.sync.options import Options

    os.set_blocking(sys.stdout.fileno(), False)
    receipts = Layout(path).receipts

    def tell(state: LiveState, is_news: bool) -> None:
        if is_news:
            write_live(receipts, state)
        _print(state)

    options = Options(on_rollback=on_rollback)
    state = Uploader(path, end.come, tell, options, interval_s).run()
    click.get_current_context().exit(0 if state.arrived else 6)


def _give_way() -> None:
    """Let the training have the processor first, in a session of its own too, and the memory."""
    os.nice(_NICENESS)
    with suppress(OSError):  # where sessions share the processor evenly, whatever their niceness
        Path("/proc/self/autogroup").write_text(str(_NICENESS))
    with suppress(OSError):
        score = Path("/proc/self/oom_score_adj")
        score.write_text(str(min(int(score.read_text()) + _OOM_SCORE, _MOST_OOM_SCORE)))


@dataclass
class _End:
    """The end of the training: whether it has come, and when (on the monotonic clock)."""

    come: threading.Event = field(default_factory=threading.Event)
    at: float = math.inf

    def set(self) -> None:
        self.at = time.monotonic()
        self.come.set()


def _obey_signals(training_end: _End) -> None:
    """Let signals that a scheduler sends to all of a job end the training, and not this process.

    Later ones end it, as SIGALRM does when the time is up.
    """

    def end(number: int, frame: Any) -> None:
        is_time_up = number == signal.SIGALRM and training_end.come.is_set()
        if is_time_up or time.monotonic() - training_end.at > _SAME_SIGNAL_SECONDS:
            raise KeyboardInterrupt

    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM"):
        signal.signal(getattr(signal, name), end)


def _wait_for_end(parent: int, training_end: _End, timeout_s: float) -> None:
    """Wait until the training process has closed its end of the pipe, or is dead."""
    stdin = sys.stdin.fileno()
    while os.getppid() == parent:
        if select.select([stdin], [], [], _GLANCE_SECONDS)[0] and not os.read(stdin, 1):
            break
    training_end.set()
    signal.setitimer(signal.ITIMER_REAL, max(timeout_s, 0.001))


def _print(state: LiveState) -> None:
    document = {
        **asdict(state),
        "process": None,
        "error": state.error and state.error[:_LONGEST_TEXT],
    }
    with suppress(OSError):  # nobody reads, or not fast enough
        os.write(sys.stdout.fileno(), json.dumps(document).encode() + b"\n")
