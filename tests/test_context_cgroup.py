"""The limits of a job, read from control groups: real ones, and files laid out as the kernel's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from wandbkeras import Store
from wandbkeras.context.cgroup import job_limits

V2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"


# By version and controller: the file that takes a limit, and half a processor or 400 MiB.
MEMORY_BYTES = 400 << 20
LIMITS = {
    ("cgroup", "memory"): ("memory.limit_in_bytes", str(MEMORY_BYTES)),
    ("cgroup", "cpu"): ("cpu.cfs_quota_us", "50000"),
    ("cgroup2", "memory"): ("memory.max", str(MEMORY_BYTES)),
    ("cgroup2", "cpu"): ("cpu.max", "50000 100000"),
}
# It joins the groups first, so that what it takes is counted there.
JOB = """
import sys
from pathlib import Path

store, *groups = sys.argv[1:]
for group in groups:
    Path(group, "cgroup.procs").write_text("0")
import wandbkeras

ballast = b"x" * (200 << 20)
with wandbkeras.init(dir=store, id="job", environment=True, system_metrics=15):
    pass
"""


@pytest.fixture
def groups() -> Iterator[list[Path]]:
    """Groups of the kernel that limit memory and processors, one for all or one for each.

    Only where who runs the tests may make them, as root on Linux may.
    """
    made: dict[Path, None] = {}
    try:
        for mount in psutil.disk_partitions(all=True):
            group = Path(mount.mountpoint, f"wandbkeras-test-{os.getpid()}")
            controllers = mount.opts.split(",")
            if mount.fstype == "cgroup2":
                controllers = Path(mount.mountpoint, "cgroup.controllers").read_text().split()
            for controller in {"memory", "cpu"} & {*controllers}:
                name, limit = LIMITS[mount.fstype, controller]
                if mount.fstype == "cgroup2":
                    (group.parent / "cgroup.subtree_control").write_text(f"+{controller}")
                group.mkdir(exist_ok=True)
                made[group] = None
                (group / name).write_text(limit)
        if not made:
            pytest.skip("this system has no control groups of memory and processors")
        yield [*made]
    except PermissionError as error:
        pytest.skip(f"no control group can be made here: {error}")
    finally:
        for group in made:
            group.rmdir()


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def unbound(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process may run on all processors, wherever the tests run."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def test_a_job_in_a_control_group_is_measured_by_its_limits(
    groups: list[Path], tmp_path: Path
) -> None:
    """Of 400 MiB more than half is in use, whatever of the machine's memory that is."""
    subprocess.run([sys.executable, "-c", JOB, tmp_path, *groups], check=True)
    run = Store(tmp_path).run("job")
    environment = run.environment
    assert environment is not None
    assert (environment.cpu.limit, environment.memory.limit) == (0.5, MEMORY_BYTES)
    for used in run.system_metrics()["system.memory_percent"].to_pylist():
        assert 50 < used < 100


@pytest.mark.usefixtures("unbound")
def test_a_job_of_version_2_has_the_least_limit_of_its_groups(tmp_path: Path) -> None:
    """The group above the job's own limits it, too; inactive file cache is no memory in use."""
    job = "sys/fs/cgroup/system.slice/job_42"
    root = lay_out(
        tmp_path,
        {
            "proc/self/cgroup": "0::/system.slice/job_42/step_0\n",
            "proc/self/mountinfo": V2,
            f"{job}/step_0/memory.max": "max\n",
            f"{job}/step_0/cpu.max": "max 100000\n",
            f"{job}/memory.max": "4000000000\n",
            f"{job}/memory.current": "3000000000\n",
            f"{job}/memory.stat": "anon 1000000000\ninactive_file 1500000000\n",
            f"{job}/cpu.max": "250000 100000\n",
            "sys/fs/cgroup/system.slice/memory.max": "9000000000\n",
            "sys/fs/cgroup/system.slice/cpu.max": "400000 100000\n",
        },
    )
    limits = job_limits(root)
    assert (limits.cpus, limits.memory, limits.memory_used()) == (2.5, 4_000_000_000, 1_500_000_000)


@pytest.mark.usefixtures("unbound")
def test_in_a_container_the_mount_is_the_group_itself(tmp_path: Path) -> None:
    """The path of the group is then that on the host, of which nothing is there."""
    root = lay_out(
        tmp_path,
        {
            "proc/self/cgroup": "0::/docker/a\\040b\n",
            "proc/self/mountinfo": V2.replace(" / /sys", " /docker/a\\040b /sys"),
            "sys/fs/cgroup/memory.max": "1000\n",
            "sys/fs/cgroup/memory.current": "10\n",
        },
    )
    limits = job_limits(root)
    assert (limits.cpus, limits.memory, limits.memory_used()) == (None, 1000, 10)


@pytest.mark.usefixtures("unbound")
def test_a_job_of_version_1_has_a_group_for_each_controller(tmp_path: Path) -> None:
    """Memory and processors are limited in different trees, and no limit is a large number."""
    root = lay_out(
        tmp_path,
        {
            "proc/self/cgroup": "9:memory:/slurm/job_7\n4:cpu,cpuacct:/slurm/job_7\n1:name=x:/\n",
            "proc/self/mountinfo": (
                "33 1 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
                "34 1 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
                "35 1 0:30 / /proc rw - proc proc rw\n"
            ),
            "sys/fs/cgroup/memory/slurm/job_7/memory.limit_in_bytes": "2000\n",
            "sys/fs/cgroup/memory/slurm/job_7/memory.usage_in_bytes": "1500\n",
            "sys/fs/cgroup/memory/slurm/job_7/memory.stat": "cache 7\ntotal_inactive_file 500\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/cpu,cpuacct/slurm/job_7/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu,cpuacct/slurm/job_7/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    limits = job_limits(root)
    assert (limits.cpus, limits.memory, limits.memory_used()) == (0.5, 2000, 1000)


@pytest.mark.usefixtures("unbound")
def test_without_control_groups_nothing_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the processors that a process is bound to are; what is no number is no limit."""
    assert job_limits(tmp_path) == job_limits(tmp_path / "none")
    assert job_limits(tmp_path).memory_used() is None
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3})
    assert job_limits(tmp_path).cpus == 2.0
    root = lay_out(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": V2,
            "sys/fs/cgroup/memory.max": "odd\n",
            "sys/fs/cgroup/cpu.max": "100000 0\n",
        },
    )
    assert (job_limits(root).cpus, job_limits(root).memory) == (2.0, None)
