"""Signals that say that the job is about to be ended, at any moment, whoever else handles them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from wandbkeras import Run, Store, StoredRun, mark_preempting
from wandbkeras.errors import UsageError
from wandbkeras.recording.preemption import PreemptionWatch, resolve_signals

# Logs as fast as it can, rows of several pieces and tables of values among them, and says how far
# it is; journals are small, so that signals also meet a segment's end.
_LOOP = """
import functools, itertools, sys, wandbkeras
from wandbkeras.recording import opening, session

session.open_run = functools.partial(opening.open_run, segment_bytes=4000)
run = wandbkeras.init(dir=sys.argv[1], id="k3j9x2ab", environment=False, system_metrics=False)
run.define_metric("low", summary="min")
print("begun", flush=True)
for step in itertools.count():
    run.log({"loss": step / 7}, commit=False)
    run.log({"low": -step})
    run.summary["at"] = step
    sys.stdout.write(f"{step}\\n") if step % 50 == 0 else None
    sys.stdout.flush()
"""


def _program(store: Path, text: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", text, str(store), *arguments], stdout=subprocess.PIPE, text=True
    )


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _events(run: StoredRun, kind: str = "preempting") -> list[dict[str, str]]:
    return [dict(event.body) for event in run.events() if event.type == kind]


@pytest.mark.parametrize("seed", range(3))
def test_a_signal_at_any_moment_neither_blocks_nor_damages(tmp_path: Path, seed: int) -> None:
    """Warned several times and then ended while it logs, a program has every row it logged."""
    moments = random.Random(seed)
    with _program(tmp_path, _LOOP) as process:
        assert _line(process) == "begun"
        for _ in range(20):
            time.sleep(moments.uniform(0.0, 0.01))
            process.send_signal(signal.SIGUSR1)
        last = int(_line(process) or "0")  # it goes on
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        said = process.stdout.read().split()
    assert process.returncode == -signal.SIGTERM
    run = Store(tmp_path).run("k3j9x2ab")
    assert (run.state, run.damage, run.exit_code) == ("preempted", [], None)
    steps = [row.step for row in run.rows()]
    assert steps == list(range(len(steps)))
    assert len(steps) >= max(last, *map(int, said), 0)
    signals = [body["signal"] for body in _events(run)]
    assert signals[-1] == "SIGTERM"
    assert set(signals) == {"SIGUSR1", "SIGTERM"}


_HANDLED = """
import select, signal, sys, wandbkeras

def handler(number, frame):
    print(signal.Signals(number).name, wandbkeras.run.preempting, flush=True)

for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, handler)
run = wandbkeras.init(dir=sys.argv[1], id="k3j9x2ab")
print("begun", run.preempting, flush=True)
while not select.select([sys.stdin], [], [], 0.05)[0]:  # a signal right before a wait is seen late
    pass
run.finish(int(sys.argv[2]))
assert signal.getsignal(signal.SIGTERM) is handler
"""


@pytest.mark.parametrize(("code", "state"), [("0", "finished"), ("75", "preempted")])
def test_a_handler_of_the_programs_own_is_called_afterwards(
    tmp_path: Path, code: str, state: str
) -> None:
    """Once a signal, when the run is marked; a run that ends well all the same has finished."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HANDLED, str(tmp_path), code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert _line(process) == "begun False"
    for number in (signal.SIGUSR1, signal.SIGTERM):
        process.send_signal(number)
        assert _line(process) == f"{number.name} True"
    assert process.communicate("go on\n") == ("", None)
    assert process.returncode == 0
    run = Store(tmp_path).run("k3j9x2ab")
    assert (run.state, run.exit_code) == (state, int(code))
    assert _events(run) == [{"signal": "SIGUSR1"}, {"signal": "SIGTERM"}]


_OFF = """
import os, signal, sys, wandbkeras
before = signal.getsignal(signal.SIGTERM)
run = wandbkeras.init(dir=sys.argv[1], id="k3j9x2ab", preempt_signals=False)
assert signal.getsignal(signal.SIGTERM) is before
run.log({"a": 1})
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    """Then no handler is there, and a process that is ended has crashed."""
    assert _program(tmp_path, _OFF).wait() == -signal.SIGTERM
    run = Store(tmp_path).run("k3j9x2ab")
    assert (run.state, _events(run)) == ("crashed", [])


_FORKED = """
import os, signal, sys, wandbkeras
run = wandbkeras.init(dir=sys.argv[1], id="k3j9x2ab")
child = os.fork()
if child == 0:
    os.kill(os.getpid(), signal.SIGTERM)
    os._exit(0)
assert os.waitpid(child, 0)[1] == signal.SIGTERM
"""


def test_a_forked_child_ends_as_ever(tmp_path: Path) -> None:
    """The run is its parent's, which nobody has told anything."""
    assert _program(tmp_path, _FORKED).wait() == 0
    run = Store(tmp_path).run("k3j9x2ab")
    assert (run.state, _events(run)) == ("finished", [])


def test_a_run_is_marked_by_hand(
    start: Callable[..., Run], stored: Callable[[Run], StoredRun]
) -> None:
    """As with wandb: for a scheduler that tells in another way than by a signal."""
    run = start(id="k3j9x2ab")
    assert not run.preempting
    mark_preempting()
    assert run.preempting
    assert (stored(run).state, stored(run).preempting) == ("running", True)
    run.finish(75)
    assert (stored(run).state, _events(stored(run))) == ("preempted", [{}])
    again = start(id="k3j9x2ab", resume="auto")
    assert not again.preempting
    again.finish()
    assert stored(run).state == "finished"


def test_a_preempted_run_is_what_auto_goes_on_with(start: Callable[..., Run]) -> None:
    """Without an id, too."""
    run = start(project="digits")
    run.mark_preempting()
    run.finish(1)
    assert start(project="digits", resume="auto").id == run.id


def test_a_disk_that_does_not_answer_keeps_no_process_alive(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal is passed on, although the run can't be marked."""
    passed_on, released = threading.Event(), threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: passed_on.set())
    try:
        run = start(preempt_signals=False)
        monkeypatch.setattr("wandbkeras.recording.preemption.PATIENCE_S", 0.01)
        monkeypatch.setattr(run, "mark_preempting", lambda signal: released.wait(60.0))
        watch = PreemptionWatch(run, [signal.SIGUSR1])
        watch.start()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert passed_on.wait(30.0)
        released.set()
        watch.stop()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_elsewhere_than_in_the_main_thread_no_signal_is_watched(start: Callable[..., Run]) -> None:
    """Python allows it there alone; the run is recorded all the same."""
    before = signal.getsignal(signal.SIGTERM)
    found: list[object] = []

    def work() -> None:
        run = start()
        found.append(signal.getsignal(signal.SIGTERM))
        run.finish()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


@pytest.mark.parametrize("given", [["SIGNOT"], "TERM,", [99999], ["SIGKILL"], [1.5]])
def test_what_is_no_signal_is_refused(given: object) -> None:
    """At once, with what was expected."""
    with pytest.raises(UsageError, match="preempt_signals: received"):
        resolve_signals(given, {})  # type: ignore[arg-type]


def test_the_environment_says_which_signals() -> None:
    """By their names, with or without SIG; the argument goes before it."""
    environ = {"WANDBKERAS_PREEMPT_SIGNALS": "SIGUSR2,term"}
    assert resolve_signals(None, environ) == (signal.SIGUSR2, signal.SIGTERM)
    assert resolve_signals(["SIGUSR1"], environ) == (signal.SIGUSR1,)
    assert resolve_signals(False, environ) == ()
