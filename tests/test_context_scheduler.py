"""Jobs and containers, by what schedulers and runtimes leave in a process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wandbkeras.context.scheduler import find_container, find_scheduler


def test_a_slurm_job_has_its_id_its_nodes_and_its_variables() -> None:
    """As W&B has them: without the prefix, in small letters; what looks like a key stays out."""
    found = find_scheduler(
        {
            "SLURM_JOB_ID": "42",
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_PROCID": "0",
            "SLURM_JWT": "secret",
            "HOME": "/root",
        }
    )
    assert found is not None
    assert (found.name, found.job_id, found.nodes) == ("slurm", "42", "node[1-2]")
    assert found.variables == {"job_id": "42", "job_nodelist": "node[1-2]", "procid": "0"}


def test_a_pbs_job_lists_its_nodes_in_a_file(tmp_path: Path) -> None:
    """A line for each slot; a file that is gone tells nothing."""
    (tmp_path / "nodes").write_text("n1\nn1\nn2\n")
    for file, nodes in (("nodes", "n1 n2"), ("gone", None)):
        environ = {"PBS_JOBID": "7.server", "PBS_NODEFILE": str(tmp_path / file)}
        found = find_scheduler(environ)
        assert found is not None
        assert (found.name, found.job_id, found.nodes) == ("pbs", "7.server", nodes)


def test_an_lsf_job_is_known_and_no_job_is_none() -> None:
    """LSF lists the hosts in a variable."""
    found = find_scheduler({"LSB_JOBID": "9", "LSB_HOSTS": "h1 h1 h2"})
    assert found is not None
    assert (found.name, found.job_id, found.nodes) == ("lsf", "9", "h1 h1 h2")
    assert find_scheduler({"SLURM_JOB_ID": "", "PATH": "/bin"}) is None


@pytest.mark.parametrize(
    ("environ", "mark", "expected"),
    [
        ({}, None, (None, None)),
        ({}, ".dockerenv", ("docker", None)),
        ({}, "run/.containerenv", ("podman", None)),
        ({"WANDB_DOCKER": "me/image:1"}, ".dockerenv", ("docker", "me/image:1")),
        ({"APPTAINER_CONTAINER": "/i.sif"}, None, ("apptainer", "/i.sif")),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, ".dockerenv", ("kubernetes", None)),
    ],
)
def test_a_container_is_known_by_what_its_runtime_leaves(
    tmp_path: Path, environ: dict[str, str], mark: str | None, expected: Any
) -> None:
    """Files at the root and variables; the image where that is told."""
    if mark is not None:
        (tmp_path / mark).parent.mkdir(exist_ok=True)
        (tmp_path / mark).touch()
    assert find_container(environ, tmp_path) == expected
