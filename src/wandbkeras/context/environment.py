"""The environment of an attempt: what is told apart at once, and what takes a while to find."""

from __future__ import annotations

import getpass
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from wandbkeras.context import packages
from wandbkeras.context.amd import AmdGpus
from wandbkeras.context.cgroup import job_limits
from wandbkeras.context.edge import attempted
from wandbkeras.context.git import DIFF_BYTES, Repository, find_repository
from wandbkeras.context.masking import Masking
from wandbkeras.context.nvidia import NvidiaGpus
from wandbkeras.context.program import Program
from wandbkeras.context.scheduler import find_container, find_scheduler
from wandbkeras.store.checks import readable
from wandbkeras.store.environment import DIFF, REQUIREMENTS, Cpu, Disk, Environment, Gpu, Memory

_T = TypeVar("_T")


@dataclass(frozen=True)
class Found:
    """The environment, its files by their names in the run, and what could not be found out."""

    environment: Environment
    files: Mapping[str, bytes]
    failures: list[str]


def find_environment(program: Program, run_directory: Path, *, save_code: bool) -> Found:
    """Return the environment of this process; what fails is left out and said."""
    failures: list[str] = []

    def known(look: Callable[[], _T]) -> _T | None:
        return attempted(look, lambda reason: failures.append(f"{look.__name__}: {reason}"))

    def repository() -> Repository | None:
        for directory in (program.directory, program.path.parent):
            if directory.is_dir():
                found = find_repository(directory, with_diff=save_code)
                if found is not None:
                    return found
        return None

    def disks() -> dict[str, Disk]:
        places = {path.stat().st_dev: path for path in (run_directory, Path("/"))}
        usage = {readable(path): shutil.disk_usage(path) for path in places.values()}
        return {name: Disk(total=u.total, used=u.used) for name, u in usage.items()}

    def scheduler() -> Any:
        return find_scheduler(program.environ)

    def containers() -> tuple[str | None, str | None]:
        return find_container(program.environ)

    def backend() -> str | None:
        return _backend(program.environ)

    def code_path() -> str | None:
        if found is None or not program.path.is_file():
            return None
        inside = os.path.relpath(program.path.resolve(), found.root.resolve())
        return None if inside.startswith("..") else readable(inside)

    found = None if program.environ.get("WANDB_DISABLE_GIT") else known(repository)
    if found is not None and found.is_too_large:
        failures.append(
            f"the diff of what is not committed has more than {DIFF_BYTES} bytes, and is not "
            "recorded"
        )
    hide = Masking(program.environ).hide
    installed = known(packages.installed) or {}
    gpus, cuda = known(_gpus) or ([], None)
    container, image = known(containers) or (None, None)
    environment = Environment(
        os=known(_os),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        executable=readable(sys.executable),
        program=readable(program.path),
        args=[hide(readable(argument)) for argument in program.args[1:]],
        code_path=known(code_path),
        directory=readable(program.directory),
        host=readable(platform.node()),
        user=known(_user),
        cpu=known(_cpu) or Cpu(),
        memory=known(_memory) or Memory(),
        disks=known(disks) or {},
        gpus=gpus,
        cuda=cuda,
        frameworks={n: installed[n] for n in packages.FRAMEWORKS if n in installed},
        backend=known(backend),
        git=None if found is None else found.git,
        scheduler=known(scheduler),
        container=container,
        image=image,
    )
    files = {REQUIREMENTS: packages.requirements(installed)} if installed else {}
    if found is not None and found.diff is not None:
        files[DIFF] = found.diff
    return Found(environment, files, failures)


def _os() -> str:
    return readable(platform.platform(aliased=True))


def _user() -> str:
    try:
        return readable(getpass.getuser())
    except (KeyError, OSError):  # a container may run under a number that has no name
        return str(os.getuid())


def _cpu() -> Cpu:
    import psutil  # with its C library, in the background

    model = None
    try:
        with Path("/proc/cpuinfo").open() as file:
            names = (line.partition(":")[2] for line in file if line.startswith("model name"))
            model = next(names, "").strip()
    except OSError:
        model = platform.processor()
    return Cpu(
        count=psutil.cpu_count(logical=False),
        count_logical=psutil.cpu_count(),
        model=readable(model) or None,
        limit=job_limits().cpus,
    )


def _memory() -> Memory:
    import psutil

    return Memory(total=psutil.virtual_memory().total, limit=job_limits().memory)


def _gpus() -> tuple[list[Gpu], str | None]:
    nvidia = NvidiaGpus.open()
    if nvidia is None:
        return AmdGpus().describe(), None
    return [*nvidia.describe(), *AmdGpus().describe()], nvidia.cuda


def _backend(environ: Mapping[str, str]) -> str | None:
    """Return the backend that Keras uses, or will use, without importing it."""
    keras = sys.modules.get("keras")
    loaded = getattr(getattr(keras, "config", None), "backend", None)
    if loaded is not None:
        return str(loaded())
    if environ.get("KERAS_BACKEND"):
        return readable(environ["KERAS_BACKEND"])
    home = Path(environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        return str(json.loads((home / "keras.json").read_text())["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
