"""Which job of which scheduler this is, and in which container."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from wandbkeras.context.masking import looks_secret
from wandbkeras.store.checks import readable
from wandbkeras.store.environment import Scheduler

# Name, prefix of its variables, the job, and where the nodes are.
_SCHEDULERS = (
    ("slurm", "SLURM_", "SLURM_JOB_ID", "SLURM_JOB_NODELIST"),
    ("pbs", "PBS_", "PBS_JOBID", "PBS_NODEFILE"),
    ("lsf", "LSB_", "LSB_JOBID", "LSB_HOSTS"),
)
_NODE_BYTES = 1 << 20


def find_scheduler(environ: Mapping[str, str]) -> Scheduler | None:
    """Return the job that this process belongs to; values whose names look like keys stay out.

    >>> find_scheduler({"SLURM_JOB_ID": "7", "SLURM_JWT": "x"})
    Scheduler(name='slurm', job_id='7', nodes=None, variables={'job_id': '7'})
    """
    for name, prefix, job, nodes in _SCHEDULERS:
        if environ.get(job):
            variables = {
                readable(key.removeprefix(prefix).lower()): readable(value)
                for key, value in environ.items()
                if key.startswith(prefix) and not looks_secret(key)
            }
            listed = environ.get(nodes)
            if listed and nodes.endswith("FILE"):
                listed = _nodes_of(Path(listed))
            return Scheduler(
                name, readable(environ[job]), readable(listed) if listed else None, variables
            )
    return None


def _nodes_of(path: Path) -> str | None:
    """Return the nodes of a file with a line for each slot, each once."""
    try:
        with path.open("rb") as file:
            lines = file.read(_NODE_BYTES).decode(errors="replace").split()
    except OSError:
        return None
    return " ".join(dict.fromkeys(lines))


def find_container(
    environ: Mapping[str, str], root: Path = Path("/")
) -> tuple[str | None, str | None]:
    """Return the kind of container that this is in, and its image as far as that is known."""
    image = environ.get("WANDB_DOCKER")
    for name in ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"):
        if environ.get(name):
            return "apptainer", readable(image or environ[name])
    marks = {"docker": root / ".dockerenv", "podman": root / "run/.containerenv"}
    kind = next((kind for kind, mark in marks.items() if mark.exists()), None)
    if environ.get("KUBERNETES_SERVICE_HOST"):
        kind = "kubernetes"
    return kind, readable(image) if image else None
