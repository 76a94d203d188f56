"""``init`` and the active run of this process: what ``wandbkeras.log`` and friends act on."""

from __future__ import annotations

import atexit
import functools
import importlib
import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from wandbkeras.errors import DiskFullError, WandbkerasError
from wandbkeras.recording.attempt import Begun
from wandbkeras.recording.exits import ExitCode
from wandbkeras.recording.open_table import OpenTable
from wandbkeras.recording.opening import open_run, unwritable
from wandbkeras.recording.preemption import PreemptionWatch, resolve_signals
from wandbkeras.recording.recorder import Run
from wandbkeras.recording.settings import resolve
from wandbkeras.recording.surroundings import record_surroundings
from wandbkeras.recording.values import plain_config

_active: Run | None = None
_exit_code = ExitCode()


def init(
    project: str | None = None,
    entity: str | None = None,
    dir: str | os.PathLike[str] | None = None,
    id: str | None = None,
    name: str | None = None,
    group: str | None = None,
    job_type: str | None = None,
    tags: Iterable[str] | None = None,
    notes: str | None = None,
    config: Mapping[str, Any] | Any | None = None,
    resume: str | bool | None = None,
    mode: str | None = None,
    on_full: str | None = None,
    max_bytes: int | str | None = None,
    environment: bool | None = None,
    save_code: bool | None = None,
    system_metrics: bool | float | None = None,
    preempt_signals: Iterable[str | int] | str | bool | None = None,
    live_timeout: float | None = None,
    console: str | bool | None = None,
    console_max_bytes: int | str | None = None,
) -> Run:
    """Start a run and make it the active one; no network, account or key is needed.

    The arguments mean what they mean to ``wandb.init``; what is not given is taken from
    ``WANDB_PROJECT``, ``WANDB_ENTITY``, ``WANDB_DIR``, ``WANDB_RUN_ID``, ``WANDB_NAME``,
    ``WANDB_RUN_GROUP``, ``WANDB_JOB_TYPE``, ``WANDB_TAGS``, ``WANDB_NOTES`` and ``WANDB_RESUME``.

    Args:
        dir: the store, a directory in which each run has its own; default ``runs``.
        config: the hyperparameters, a dict or an argparse.Namespace.
        resume: ``allow``, ``must``, ``never`` or ``auto``: whether a run of this id that is in the
            store already goes on. It is never overwritten.
        mode: ``offline`` (default: record into the store), ``live`` (or wandb's ``online``: a
            process beside this one uploads what is recorded at once) or ``disabled`` (record
            nothing); else from ``WANDBKERAS_MODE``.
        on_full: what happens when the disk is full: ``drop`` (default: training goes on, what is
            not recorded is counted) or ``raise`` (:class:`wandbkeras.errors.DiskFullError`); else
            from ``WANDBKERAS_ON_FULL``.
        max_bytes: the most that the run may take on disk, a number or text like ``"500MB"``; what
            is more is treated as if the disk were full. Else from ``WANDBKERAS_MAX_BYTES``.
        environment: whether the machine, the program, its packages and its git repository are
            recorded, in the background (default: yes); else from ``WANDBKERAS_ENVIRONMENT``.
        save_code: whether code that is not committed is recorded, as a diff (default: yes); else
            from ``WANDB_SAVE_CODE`` and ``WANDB_DISABLE_CODE``.
        system_metrics: whether processor, memory, disks, network and GPUs are sampled, in the
            background (default: yes, every 15 s); or seconds from one sample to the next, 2 at
            least. Else from ``WANDBKERAS_SYSTEM_METRICS``.
        preempt_signals: the names of the signals by which the job is told that it is about to be
            ended, False for none (default: SIGTERM and SIGUSR1); else from
            ``WANDBKERAS_PREEMPT_SIGNALS``. See :meth:`Run.mark_preempting`.
        live_timeout: the seconds that ``finish`` waits in live mode for what has not arrived yet
            (default: 60); else from ``WANDBKERAS_LIVE_TIMEOUT``.
        console: what is printed is recorded, masked where it is the value of a variable that looks
            like a key: ``auto`` (default: all that the process and its children print), ``wrap``
            (what Python's ``sys.stdout`` and ``sys.stderr`` print) or ``off``; else from
            ``WANDBKERAS_CONSOLE`` and ``WANDB_CONSOLE``.
        console_max_bytes: the most that is kept of it, its beginning and its end, a number or text
            (default: ``"32MB"``). Else from ``WANDBKERAS_CONSOLE_MAX_BYTES``.

    Raises:
        UsageError: an argument is wrong, or W&B would refuse it.
        RunExistsError: the id is taken and ``resume`` does not allow to go on.

    >>> import tempfile, wandbkeras
    >>> with tempfile.TemporaryDirectory() as store:
    ...     run = wandbkeras.init(project="digits", dir=store, config={"lr": 1e-3})
    ...     run.log({"loss": 0.5})
    ...     run.finish()
    ...     wandbkeras.Store(store).run(run.id).summary["loss"]
    0.5
    """
    global _active
    if (active := active_run()) is not None:
        _say(f"run {active.id} is active already: init() returns it; call finish() for a new one")
        return active
    settings = resolve(
        created=time.time(),
        project=project,
        entity=entity,
        directory=dir,
        id=id,
        name=name,
        group=group,
        job_type=job_type,
        tags=tags,
        notes=notes,
        resume=resume,
        mode=mode,
        on_full=on_full,
        max_bytes=max_bytes,
        environment=environment,
        save_code=save_code,
        system_metrics=system_metrics,
        live_timeout=live_timeout,
        console=console,
        console_max_bytes=console_max_bytes,
    )
    signals = resolve_signals(preempt_signals, os.environ)
    plain = plain_config(config or {})
    _watch_exit()
    run = Run(Begun(settings.info, None)) if settings.mode == "disabled" else open_run(settings)
    try:
        run.config.update(plain, allow_val_change=True)
        run.confirm()  # who the run is survives even a power cut before the first batch
    except (OSError, DiskFullError) as error:
        run.withdraw()
        raise unwritable(settings, error) from error
    _active = run
    if run.dir is not None:
        watch = PreemptionWatch(run, signals)
        watch.start()
        run.before_finish(watch.stop)
    record_surroundings(run, settings.switches)
    if settings.mode == "live":
        # Imported only here: other runs begin without it, and a run is to begin at once.
        from wandbkeras.recording.live import start_uploader

        start_uploader(run, settings.live_timeout_s)
    return run


def active_run() -> Run | None:
    """Return the run that ``init`` made, None before it and after ``finish``."""
    global _active
    if _active is not None and _active.is_finished:
        _active = None
    return _active


def require_run(function: str) -> Run:
    run = active_run()
    if run is None:
        raise WandbkerasError(f"call wandbkeras.init() before wandbkeras.{function}")
    return run


def log(data: Mapping[str, Any], step: int | None = None, commit: bool | None = None) -> None:
    """Call :meth:`Run.log` of the active run."""
    require_run("log()").log(data, step=step, commit=commit)


def finish(exit_code: int | None = None) -> None:
    """Finish the active run, if there is one."""
    run = active_run()
    if run is not None:
        run.finish(exit_code)


def alert(*arguments: Any, **keywords: Any) -> None:
    """Call :meth:`Run.alert` of the active run."""
    require_run("alert()").alert(*arguments, **keywords)


def define_metric(name: str, *arguments: Any, **keywords: Any) -> None:
    """Call :meth:`Run.define_metric` of the active run."""
    require_run("define_metric()").define_metric(name, *arguments, **keywords)


def log_artifact(*arguments: Any, **keywords: Any) -> Any:
    """Call :meth:`Run.log_artifact` of the active run."""
    return require_run("log_artifact()").log_artifact(*arguments, **keywords)


def log_model(*arguments: Any, **keywords: Any) -> None:
    """Call :meth:`Run.log_model` of the active run."""
    require_run("log_model()").log_model(*arguments, **keywords)


def mark_preempting() -> None:
    """Call :meth:`Run.mark_preempting` of the active run."""
    require_run("mark_preempting()").mark_preempting()


def open_table(*arguments: Any, **keywords: Any) -> OpenTable:
    """Call :meth:`Run.open_table` of the active run."""
    return require_run("open_table()").open_table(*arguments, **keywords)


def use_artifact(*arguments: Any, **keywords: Any) -> Any:
    """Call :meth:`Run.use_artifact` of the active run."""
    return require_run("use_artifact()").use_artifact(*arguments, **keywords)


def save(*arguments: Any, **keywords: Any) -> list[str]:
    """Call :meth:`Run.save` of the active run."""
    return require_run("save()").save(*arguments, **keywords)


def _finish_at_exit() -> None:
    run = active_run()
    if run is not None:
        run.ended_by(_exit_code.traceback)
        run.finish(_exit_code.value)


def _forget_in_child() -> None:
    """A forked child shares the journal's descriptor with its parent: it must not write to it."""
    global _active
    if _active is not None:
        _active.detach()
        _active = None


def _say(text: str) -> None:
    print(f"wandbkeras: {text}", file=sys.stderr)  # noqa: T201


@functools.cache
def _watch_exit() -> None:
    """Finish the active run when the process ends; once a process."""
    # What sealing imports may want this, and it can't be imported once the interpreter is ending.
    importlib.import_module("concurrent.futures.thread")
    _exit_code.install()
    atexit.register(_finish_at_exit)
    os.register_at_fork(after_in_child=_forget_in_child)
