"""The body of an ``environment`` event: the machine and the program that an attempt ran on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from wandbkeras.errors import DamagedError
from wandbkeras.store.checks import Count, convert

# Files of the run that belong to its environment, and what W&B calls them.
REQUIREMENTS, DIFF = "wandbkeras/requirements.txt", "wandbkeras/diff.patch"
WANDB_NAMES = {REQUIREMENTS: "requirements.txt", DIFF: "diff.patch"}
# As W&B's records hold them.
_Number = Annotated[int, Meta(ge=0, lt=2**32)]


class _Known(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is not known is absent."""


class Cpu(_Known, frozen=True):
    """``count`` cores, ``count_logical`` threads of them; ``limit``: those that the job may use."""

    count: _Number | None = None
    count_logical: _Number | None = None
    model: str | None = None
    limit: float | None = None


class Memory(_Known, frozen=True):
    """Bytes; ``limit``: those that the job may use."""

    total: Count | None = None
    limit: Count | None = None


class Disk(_Known, frozen=True):
    """Bytes of a file system."""

    total: Count
    used: Count


class Gpu(_Known, frozen=True):
    """``vendor`` is ``nvidia`` or ``amd``, ``memory_total`` in bytes."""

    vendor: str
    name: str = ""
    memory_total: Count | None = None
    uuid: str | None = None


class Git(_Known, frozen=True):
    """The commit, and the remote without credentials; ``dirty``: there was more than the commit."""

    commit: str | None = None
    remote: str | None = None
    dirty: bool | None = None


class Scheduler(_Known, frozen=True):
    """``name`` is ``slurm``, ``pbs`` or ``lsf``; ``nodes`` as it lists them.

    ``variables`` are the scheduler's own without their prefix, in small letters.
    """

    name: str
    job_id: str | None = None
    nodes: str | None = None
    variables: dict[str, str] = {}


class Environment(_Known, frozen=True):
    """Where an attempt ran: ``directory`` is the working one, ``code_path`` within the repository.

    ``container`` is ``docker``, ``podman``, ``apptainer`` or ``kubernetes``, ``image`` what runs in
    it. ``disks`` are file systems, by a path in each: of the root, and of the run.
    ``frameworks`` are versions of Keras and its backends, ``backend`` the one that Keras uses.
    """

    os: str | None = None
    python: str | None = None
    executable: str | None = None
    program: str | None = None
    args: list[str] = []
    code_path: str | None = None
    directory: str | None = None
    host: str | None = None
    user: str | None = None
    cpu: Cpu = Cpu()
    memory: Memory = Memory()
    disks: dict[str, Disk] = {}
    gpus: list[Gpu] = []
    cuda: str | None = None
    frameworks: dict[str, str] = {}
    backend: str | None = None
    git: Git | None = None
    scheduler: Scheduler | None = None
    container: str | None = None
    image: str | None = None

    def to_body(self) -> dict[str, Any]:
        body: dict[str, Any] = msgspec.to_builtins(self)
        return body


def environment_of(root: Path, body: Mapping[str, Any]) -> Environment:
    """Return what an event says; DamagedError if it is none."""
    try:
        return convert(body, Environment)
    except ValueError as error:
        raise DamagedError(f"{root}: an environment that is none ({error})") from error
