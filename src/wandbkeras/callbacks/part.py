"""What every part of the callback is: a Keras callback whose hooks never raise into training.

The one exception is asked for: ``init(on_full="raise")`` stops a training that can't be recorded.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import keras

from wandbkeras.callbacks.any_keras import AnyKerasCallback
from wandbkeras.callbacks.ranks import ALONE, live_rank
from wandbkeras.errors import DiskFullError
from wandbkeras.recording.recorder import Run
from wandbkeras.recording.session import active_run, init

Hook = TypeVar("Hook", bound=Callable[..., None])


class Part(AnyKerasCallback):
    """A callback that records into the active run, starting one if there is none.

    ``failures`` counts the hooks that failed; the first is said on standard error, all are counted
    in the run.

    ``needs`` says what of the model a part takes. Of several processes that train one model, the
    chief alone records: its ``logs``; its ``weights``, where one process can read them alone; and
    nothing for which the ``model`` runs, which would block or abort the others. On other processes
    no hook does anything.

    ``commits`` says whether what a part logs of an epoch is a row of its own. A callback that
    composes parts sets it to False where another part completes the row.
    """

    commits = True
    needs: Literal["logs", "weights", "model"] = "logs"
    rank = ALONE
    # Whether nothing is recorded here because other processes train the model, too.
    is_left_out = False

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0
        # Shared by the parts of one callback: what keeps them all from recording is said once.
        self.said: set[str] = set()

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self.rank = rank = live_rank(model)
        too_much = {"logs": False, "weights": rank.shares_variables, "model": True}[self.needs]
        self.is_left_out = not rank.is_alone and (too_much or not rank.is_chief)
        if not rank.is_chief and (run := active_run()) is not None:
            run.leave_history()
        if self.is_left_out and rank.is_chief:
            self.notice(
                f"{type(self).__name__} is left out: {rank.count} processes train this model "
                f"({rank.framework}), and what it does with it would be done by one of them alone"
            )

    @property
    def run(self) -> Run:
        """The run to record into."""
        return active_run() or init()

    def report(self, hook: str, error: Exception) -> None:
        """Say the first failure of this part and count each in the run; training goes on."""
        self.failures += 1
        name = type(self).__name__
        run = active_run()
        cause = "there is no run" if run is None else name
        if cause not in self.said:
            self.said.add(cause)
            print(  # noqa: T201
                f"wandbkeras: {name}.{hook} failed, training goes on without what it records "
                f"({type(error).__name__}: {error})",
                file=sys.stderr,
            )
        if run is not None and not run.is_finished:
            run.record_failure(f"{name}.{hook}", f"{type(error).__name__}: {error}")

    def notice(self, text: str) -> None:
        """Say, once, what this part does not record and why, and count it in the run."""
        if text not in self.said:
            self.said.add(text)
            print(f"wandbkeras: {text}", file=sys.stderr)  # noqa: T201
            self.run.record_failure(type(self).__name__, text)

    def log_epoch(self, epoch: int, values: Mapping[str, Any]) -> None:
        """Log values of an epoch as a row, or as a piece of the row that another part completes."""
        if self.commits:
            self.run.log({**values, "epoch": epoch})
        else:
            self.run.log(values, commit=False)


def never_raises(hook: Hook) -> Hook:
    """Guard a hook of a :class:`Part`: an error is reported, training goes on.

    But for the one that ``init(on_full="raise")`` asked for: it stops the training.
    """

    @functools.wraps(hook)
    def guarded(self: Part, *arguments: Any, **keywords: Any) -> None:
        if self.is_left_out:
            return
        try:
            hook(self, *arguments, **keywords)
        except DiskFullError:
            raise
        except Exception as error:  # noqa: BLE001 - the callback's edge: training goes on
            self.report(hook.__name__, error)

    return guarded  # type: ignore[return-value]
