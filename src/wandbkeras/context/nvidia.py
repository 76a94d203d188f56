"""NVIDIA's GPUs, by NVML: what they are and what they do, under the names of W&B's client."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

from wandbkeras.store.environment import Gpu

# What W&B has of a GPU that the process uses, once more as ``gpu.process.N.…``.
_OF_THE_PROCESS = (
    "gpu",
    "memory",
    "memoryAllocated",
    "memoryAllocatedBytes",
    "temp",
    "powerWatts",
    "powerPercent",
    "enforcedPowerLimitWatts",
)


class NvidiaGpus:
    """The GPUs that ``nvml``, the module ``pynvml``, knows of; it has been initialised."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        count = self._ask(nvml.nvmlDeviceGetCount) or 0
        found = ((n, self._ask(nvml.nvmlDeviceGetHandleByIndex, n)) for n in range(count))
        self._devices = {number: device for number, device in found if device is not None}

    @classmethod
    def open(cls) -> NvidiaGpus | None:
        """Return the GPUs of this machine; None if it has no library or no driver."""
        try:
            nvml: Any = importlib.import_module("pynvml")
        except ImportError:
            return None
        try:
            nvml.nvmlInit()
        except nvml.NVMLError:
            return None
        return cls(nvml)

    @property
    def cuda(self) -> str | None:
        """The version of CUDA that the driver has."""
        version = self._ask(self._nvml.nvmlSystemGetCudaDriverVersion_v2)
        return f"{version // 1000}.{version % 1000 // 10}" if version else None

    def describe(self) -> list[Gpu]:
        nvml = self._nvml
        found = []
        for device in self._devices.values():
            memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, device)
            found.append(
                Gpu(
                    vendor="nvidia",
                    name=_text(self._ask(nvml.nvmlDeviceGetName, device)) or "",
                    memory_total=memory and memory.total,
                    uuid=_text(self._ask(nvml.nvmlDeviceGetUUID, device)),
                )
            )
        return found

    def sample(self, pids: Collection[int]) -> dict[str, float]:
        """Return the metrics of all GPUs; ``pids`` are the processes of the run."""
        metrics: dict[str, float] = {}
        for number, device in self._devices.items():
            values = dict(self._values(device))
            metrics |= {f"gpu.{number}.{name}": value for name, value in values.items()}
            using = self._ask(self._nvml.nvmlDeviceGetComputeRunningProcesses, device) or ()
            if any(process.pid in pids for process in using):
                metrics |= {
                    f"gpu.process.{number}.{name}": values[name]
                    for name in _OF_THE_PROCESS
                    if name in values
                }
        return metrics

    def _values(self, device: Any) -> Iterator[tuple[str, float]]:
        nvml = self._nvml
        if rates := self._ask(nvml.nvmlDeviceGetUtilizationRates, device):
            yield "gpu", float(rates.gpu)
            yield "memory", float(rates.memory)
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, device)
        if memory is not None and memory.total:
            yield "memoryAllocated", memory.used / memory.total * 100
            yield "memoryAllocatedBytes", float(memory.used)
        power = self._ask(nvml.nvmlDeviceGetPowerUsage, device)
        limit = self._ask(nvml.nvmlDeviceGetEnforcedPowerLimit, device)
        if power is not None:
            yield "powerWatts", power / 1000
        if limit:
            yield "enforcedPowerLimitWatts", limit / 1000
        if power is not None and limit:
            yield "powerPercent", power / limit * 100
        for name, ask, *arguments in (
            ("temp", nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
            ("fanSpeed", nvml.nvmlDeviceGetFanSpeed),
            ("graphicsClock", nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_GRAPHICS),
            ("smClock", nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
            ("memoryClock", nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM),
            ("correctedMemoryErrors", *self._errors(nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED)),
            ("uncorrectedMemoryErrors", *self._errors(nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED)),
        ):
            value = self._ask(ask, device, *arguments)
            if value is not None:
                yield name, float(value)

    def _errors(self, kind: int) -> tuple[Any, ...]:
        nvml = self._nvml
        where = nvml.NVML_MEMORY_LOCATION_DEVICE_MEMORY
        # Since the driver started, as W&B's client counts: errors of a GPU's whole life stay after
        # what was broken has been replaced.
        return (nvml.nvmlDeviceGetMemoryErrorCounter, kind, nvml.NVML_VOLATILE_ECC, where)

    def _ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """Return NVML's answer; None if this GPU, or this driver, has none."""
        try:
            return question(*arguments)
        except self._nvml.NVMLError:
            return None


def _text(answer: str | bytes | None) -> str | None:
    return answer.decode(errors="replace") if isinstance(answer, bytes) else answer
