"""What a sample of the machine holds, beside what this process does and what files say."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.test_context_gpus import Nvml
from wandbkeras.context.cgroup import JobLimits
from wandbkeras.context.machine import Machine
from wandbkeras.context.nvidia import NvidiaGpus

_MB = 1 << 20


def test_the_processor_is_that_of_this_process_and_its_children() -> None:
    """Two busy processes on one processor's worth of limit take the more than one of them."""
    machine = Machine(limits=JobLimits(cpus=1.0))
    script = "import sys\nprint('begun', flush=True)\nfor _ in sys.stdin: pass\nwhile True: pass"
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            alone = psutil.Process().memory_info().rss / _MB
            before, start = time.process_time(), time.monotonic()
            first = machine.sample()
            while time.process_time() - before < 0.2:
                pass
            sample = machine.sample()
            spent, passed = time.process_time() - before, time.monotonic() - start
        finally:
            child.kill()
    assert first["proc.memory.rssMB"] > alone
    assert sample["proc.cpu.threads"] >= 2
    assert 0 < sample["cpu"] <= 200
    assert sample["cpu"] >= 90 * (spent - 0.05) / passed


def test_the_limits_of_a_job_are_the_whole(tmp_path: Path) -> None:
    """Inside a control group memory and processors are those of the job, not of the machine."""
    (tmp_path / "memory.current").write_text("3000000000\n")
    (tmp_path / "memory.stat").write_text("inactive_file 1000000000\n")
    limits = JobLimits(cpus=0.5, memory=4_000_000_000, group=tmp_path)
    sample = Machine(limits=limits).sample()
    assert sample["memory_percent"] == 50.0
    assert sample["proc.memory.availableMB"] == 2_000_000_000 / _MB
    share = sample["proc.memory.rssMB"] * _MB / 4_000_000_000 * 100
    assert sample["proc.memory.percent"] == pytest.approx(share)


def test_disk_and_network_count_from_the_first_sample_on(tmp_path: Path) -> None:
    """What was read, sent or sent again before a run began is not the run's."""
    snmp = tmp_path / "proc/net/snmp"
    snmp.parent.mkdir(parents=True)
    snmp.write_text("Ip: Forwarding\nIp: 1\nTcp: InSegs RetransSegs\nTcp: 5 40\n")
    machine = Machine(root=tmp_path)
    snmp.write_text("Ip: Forwarding\nIp: 1\nTcp: InSegs RetransSegs\nTcp: 9 47\n")
    sample = machine.sample()
    assert sample["network.tcpRetransmits"] == 7
    counted = {name: value for name, value in sample.items() if name.endswith((".in", ".out"))}
    assert all(0 <= value < 1000 for value in counted.values())
    assert sample["disk./.usageGB"] == pytest.approx(psutil.disk_usage("/").used / 2**30, abs=1)


def test_gpus_are_in_the_sample() -> None:
    """What NVML says of the GPUs stands beside the rest."""
    sample = Machine(nvidia=NvidiaGpus(Nvml())).sample()
    assert sample["gpu.0.gpu"] == sample["gpu.1.gpu"] == 90
    assert not [name for name in sample if name.startswith("gpu.process")]
    assert sample["proc.memory.rssMB"] > 0


def test_what_a_container_hides_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that can't be read takes nothing else with it."""
    machine = Machine()

    def hidden(*arguments: object) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "virtual_memory", hidden)
    monkeypatch.setattr(psutil, "disk_usage", hidden)
    sample = machine.sample()
    assert "memory_percent" not in sample
    assert "disk./.usageGB" not in sample
    assert sample["proc.cpu.threads"] >= 1
