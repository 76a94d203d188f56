"""What the machine and the processes of the run do, under the names that W&B's client uses.

Its standard panels look for exactly these names. Of a job whose control group limits it, the limits
are the whole: a full job on an empty node is full.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from wandbkeras.context.amd import AmdGpus
from wandbkeras.context.cgroup import JobLimits, job_limits
from wandbkeras.context.nvidia import NvidiaGpus
from wandbkeras.context.process_tree import processes_below

_MB, _GB = 1 << 20, 1 << 30
_PSEUDO = ("loop", "ram", "zram")


class Machine:
    """Measures from its making on; ``root`` is where ``/proc`` and ``/sys`` lie.

    What can't be measured, here or at a moment, is not in the sample.
    """

    def __init__(
        self, *, nvidia: NvidiaGpus | None = None, limits: JobLimits | None = None,
        root: Path = Path("/"),
    ) -> None:  # fmt: skip
        self._process = psutil.Process()
        self._limits = limits or job_limits(root)
        self._nvidia = nvidia or NvidiaGpus.open()
        self._amd = AmdGpus(root)
        self._snmp = root / "proc/net/snmp"
        self._cpu_seconds: dict[Any, float] = {}
        self._measured = time.monotonic()
        self._of_the_run()
        self._devices = _devices()
        self._first = dict(self._counters())

    def sample(self) -> dict[str, float]:
        """Return what holds now, and of the processor what holds since the sample before."""
        metrics: dict[str, float] = {}
        # A process or a device may be gone at any moment, and a container may hide what it likes.
        for part in (self._processes, self._memory, self._disk, self._since_the_first, self._gpus):
            with suppress(psutil.Error, OSError):
                for name, value in part():
                    metrics[name] = value
        return metrics

    def _of_the_run(self) -> tuple[float, int, int, set[int]]:
        """Return of the process and all below it: seconds of CPU time since the last time, bytes
        in memory, threads, and their ids."""
        spent, resident, threads, pids = 0.0, 0, 0, set()
        seconds: dict[Any, float] = {}
        for process in (self._process, *processes_below(self._process)):
            with suppress(psutil.Error), process.oneshot():
                times = process.cpu_times()
                key = (process.pid, process.create_time())
                seconds[key] = times.user + times.system
                spent += seconds[key] - self._cpu_seconds.get(key, 0.0)
                resident += process.memory_info().rss
                threads += process.num_threads()
                pids.add(process.pid)
        self._cpu_seconds = seconds
        return spent, resident, threads, pids

    def _processes(self) -> Iterator[tuple[str, float]]:
        spent, resident, threads, self._pids = self._of_the_run()
        now = time.monotonic()
        passed, self._measured = now - self._measured, now
        cpus = self._limits.cpus or os.cpu_count() or 1
        if passed > 0:
            yield "cpu", spent / passed / cpus * 100
        yield "proc.cpu.threads", float(threads)
        yield "proc.memory.rssMB", resident / _MB
        total = self._limits.memory or psutil.virtual_memory().total
        yield "proc.memory.percent", resident / total * 100

    def _memory(self) -> Iterator[tuple[str, float]]:
        used = self._limits.memory_used()
        if used is None or self._limits.memory is None:
            memory = psutil.virtual_memory()
            yield "memory_percent", memory.percent
            yield "proc.memory.availableMB", memory.available / _MB
        else:
            yield "memory_percent", used / self._limits.memory * 100
            yield "proc.memory.availableMB", max(self._limits.memory - used, 0) / _MB

    def _disk(self) -> Iterator[tuple[str, float]]:
        usage = psutil.disk_usage("/")
        yield "disk./.usagePercent", usage.percent
        yield "disk./.usageGB", usage.used / _GB

    def _since_the_first(self) -> Iterator[tuple[str, float]]:
        """Yield what is counted, from the making of this object on."""
        for name, value in self._counters():
            if name in self._first:
                yield name, value - self._first[name]

    def _counters(self) -> Iterator[tuple[str, float]]:
        network = psutil.net_io_counters()
        if network is not None:
            yield "network.sent", float(network.bytes_sent)
            yield "network.recv", float(network.bytes_recv)
        disks = psutil.disk_io_counters(perdisk=True) or {}
        for device in self._devices & disks.keys():
            yield f"disk.{device}.in", disks[device].read_bytes / _MB
            yield f"disk.{device}.out", disks[device].write_bytes / _MB
        with suppress(OSError, ValueError, StopIteration):
            lines = (line.split() for line in self._snmp.read_text().splitlines())
            names, values = (line for line in lines if line and line[0] == "Tcp:")
            retransmitted = dict(zip(names, values, strict=True))["RetransSegs"]
            yield "network.tcpRetransmits", float(retransmitted)

    def _gpus(self) -> Iterator[tuple[str, float]]:
        if self._nvidia is not None:
            yield from self._nvidia.sample(self._pids).items()
        yield from self._amd.sample().items()


def _devices() -> set[str]:
    """Return the devices that ``/`` lies on; where that can't be told, all that are devices."""
    with suppress(psutil.Error, OSError):
        known = (psutil.disk_io_counters(perdisk=True) or {}).keys()
        of_root = {
            part.device.removeprefix("/dev/")
            for part in psutil.disk_partitions()
            if part.mountpoint == "/"
        }
        return (of_root & known) or {name for name in known if not name.startswith(_PSEUDO)}
    return set()
