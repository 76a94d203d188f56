"""GPUs, by the answers that their drivers give: no test needs one."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from wandbkeras.context.amd import AmdGpus
from wandbkeras.context.nvidia import NvidiaGpus
from wandbkeras.store.environment import Gpu


class NVMLError(Exception):
    """What NVML raises where it has no answer."""


def _errors(
    *, corrected: int, uncorrected: int, corrected_before: int, uncorrected_before: int
) -> dict[tuple[str, ...], int]:
    """Return what NVML counts since the driver began, and in a GPU's whole life."""
    counts = {
        ("CORRECTED", "VOLATILE"): corrected,
        ("UNCORRECTED", "VOLATILE"): uncorrected,
        ("CORRECTED", "AGGREGATE"): corrected + corrected_before,
        ("UNCORRECTED", "AGGREGATE"): uncorrected + uncorrected_before,
    }
    where = "NVML_MEMORY_LOCATION_DEVICE_MEMORY"
    return {
        (f"NVML_MEMORY_ERROR_TYPE_{kind}", f"NVML_{since}_ECC", where): count
        for (kind, since), count in counts.items()
    }


# Of two devices, the second of which has neither a fan nor error counters nor a process. What is
# asked with further arguments is told apart by those.
_ANSWERS: dict[str, Any] = {
    "nvmlDeviceGetCount": 2,
    "nvmlSystemGetCudaDriverVersion_v2": 12040,
    "nvmlDeviceGetName": [b"NVIDIA H100 80GB HBM3", "NVIDIA A100"],
    "nvmlDeviceGetUUID": ["GPU-0", "GPU-1"],
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=80 << 30, free=20 << 30, used=60 << 30),
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=90, memory=30),
    "nvmlDeviceGetTemperature": {("NVML_TEMPERATURE_GPU",): 65},
    "nvmlDeviceGetPowerUsage": 300_000,
    "nvmlDeviceGetEnforcedPowerLimit": 700_000,
    "nvmlDeviceGetFanSpeed": [30, NVMLError()],
    "nvmlDeviceGetMemoryErrorCounter": [
        _errors(corrected=2, uncorrected=1, corrected_before=18, uncorrected_before=9),
        NVMLError(),
    ],
    "nvmlDeviceGetComputeRunningProcesses": [[SimpleNamespace(pid=7)], []],
    "nvmlDeviceGetClockInfo": {
        ("NVML_CLOCK_GRAPHICS",): 1980,
        ("NVML_CLOCK_SM",): 1965,
        ("NVML_CLOCK_MEM",): 2619,
    },
}


# Recorded on an idle GPU of a server: what `nvidia-smi -q`, which prints NVML's answers, has shown
# there (driver 470.129.06). It has no fan of its own; three errors are older than the driver.
_V100: dict[str, Any] = {
    "nvmlDeviceGetCount": 1,
    "nvmlSystemGetCudaDriverVersion_v2": 11040,
    "nvmlDeviceGetName": "Tesla V100-PCIE-32GB",
    "nvmlDeviceGetUUID": "GPU-06e3d8e6-3f54-374a-8142-9752ca1f2316",
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=32510 << 20, free=32510 << 20, used=0),
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=0, memory=0),
    "nvmlDeviceGetTemperature": {("NVML_TEMPERATURE_GPU",): 29},
    "nvmlDeviceGetPowerUsage": 25_130,
    "nvmlDeviceGetEnforcedPowerLimit": 250_000,
    "nvmlDeviceGetFanSpeed": NVMLError(),
    "nvmlDeviceGetMemoryErrorCounter": _errors(
        corrected=0, uncorrected=0, corrected_before=3, uncorrected_before=0
    ),
    "nvmlDeviceGetComputeRunningProcesses": [[]],
    "nvmlDeviceGetClockInfo": {
        ("NVML_CLOCK_GRAPHICS",): 135,
        ("NVML_CLOCK_SM",): 135,
        ("NVML_CLOCK_MEM",): 877,
    },
}


class Nvml:
    """``pynvml`` with the answers of a machine; its devices and constants are told by name."""

    NVMLError = NVMLError

    def __init__(self, answers: dict[str, Any] = _ANSWERS) -> None:
        self._answers = answers

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:
        return number

    def __getattr__(self, name: str) -> Any:
        assert hasattr(pynvml, name), f"the library has no {name}"
        if name.startswith("NVML_"):
            return name

        def ask(device: int = 0, *arguments: str) -> Any:
            answer = self._answers[name]
            if isinstance(answer, list):
                answer = answer[device]
            if isinstance(answer, NVMLError):
                raise answer
            return answer[arguments] if isinstance(answer, dict) else answer

        return ask


# As W&B's client names and scales the same answers.
_BOTH = {
    "gpu": 90.0, "memory": 30.0, "memoryAllocated": 75.0, "memoryAllocatedBytes": float(60 << 30),
    "temp": 65.0, "powerWatts": 300.0, "powerPercent": 300 / 7, "enforcedPowerLimitWatts": 700.0,
}  # fmt: skip
_CLOCKS = {"graphicsClock": 1980.0, "smClock": 1965.0, "memoryClock": 2619.0}
_FIRST = {"fanSpeed": 30.0, "correctedMemoryErrors": 2.0, "uncorrectedMemoryErrors": 1.0}


def _named(prefix: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}.{name}": value for name, value in values.items()}


def test_nvidia_metrics_have_the_names_of_wandbs_client() -> None:
    """What a GPU has no answer for is not there; one that the run uses has its metrics twice."""
    sample = NvidiaGpus(Nvml()).sample({1, 7})
    expected = {
        **_named("gpu.0", {**_BOTH, **_CLOCKS, **_FIRST}),
        **_named("gpu.process.0", _BOTH),
        **_named("gpu.1", {**_BOTH, **_CLOCKS}),
    }
    assert sample == pytest.approx(expected)


def test_a_recorded_gpu_has_what_its_driver_said() -> None:
    """An idle one of a data center; the errors of its life before are not counted."""
    gpus = NvidiaGpus(Nvml(_V100))
    assert gpus.sample({1}) == pytest.approx(
        {
            "gpu.0.gpu": 0.0,
            "gpu.0.memory": 0.0,
            "gpu.0.memoryAllocated": 0.0,
            "gpu.0.memoryAllocatedBytes": 0.0,
            "gpu.0.temp": 29.0,
            "gpu.0.powerWatts": 25.13,
            "gpu.0.powerPercent": 10.052,
            "gpu.0.enforcedPowerLimitWatts": 250.0,
            "gpu.0.graphicsClock": 135.0,
            "gpu.0.smClock": 135.0,
            "gpu.0.memoryClock": 877.0,
            "gpu.0.correctedMemoryErrors": 0.0,
            "gpu.0.uncorrectedMemoryErrors": 0.0,
        }
    )
    uuid = "GPU-06e3d8e6-3f54-374a-8142-9752ca1f2316"
    assert gpus.describe() == [Gpu("nvidia", "Tesla V100-PCIE-32GB", 32510 << 20, uuid)]
    assert gpus.cuda == "11.4"


def test_nvidia_gpus_say_what_they_are() -> None:
    """Name, memory and id of each, and the version of CUDA that the driver has."""
    gpus = NvidiaGpus(Nvml())
    assert gpus.cuda == "12.4"
    assert gpus.describe() == [
        Gpu("nvidia", "NVIDIA H100 80GB HBM3", 80 << 30, "GPU-0"),
        Gpu("nvidia", "NVIDIA A100", 80 << 30, "GPU-1"),
    ]


def test_without_a_library_or_a_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is an error; the library that is installed here finds no driver."""
    assert NvidiaGpus.open() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert NvidiaGpus.open() is None


def test_amd_gpus_are_read_from_their_drivers_files(tmp_path: Path) -> None:
    """Percentages, watts and degrees (of the memory, as W&B's client) of each card of AMD's; cards
    of others are passed over."""
    cards = tmp_path / "sys/class/drm"
    files = {
        "card10/device/vendor": "0x1002", "card10/device/gpu_busy_percent": "7",
        "card1/device/vendor": "0x1002", "card1/device/product_name": "Instinct MI300X",
        "card1/device/unique_id": "0xabc", "card1/device/gpu_busy_percent": "50",
        "card1/device/mem_busy_percent": "20", "card1/device/mem_info_vram_total": "1000",
        "card1/device/mem_info_vram_used": "400",
        "card1/device/hwmon/hwmon3/power1_average": "200000000",
        "card1/device/hwmon/hwmon3/power1_cap": "300000000",
        "card1/device/hwmon/hwmon3/temp1_label": "edge",
        "card1/device/hwmon/hwmon3/temp1_input": "60000",
        "card1/device/hwmon/hwmon3/temp3_label": "mem",
        "card1/device/hwmon/hwmon3/temp3_input": "72000",
        "card10/device/hwmon/hwmon4/temp1_input": "41000",
        "card0/device/vendor": "0x8086", "card0/device/gpu_busy_percent": "99",
    }  # fmt: skip
    for name, text in files.items():
        (cards / name).parent.mkdir(parents=True, exist_ok=True)
        (cards / name).write_text(f"{text}\n")
    gpus = AmdGpus(tmp_path)
    assert gpus.describe()[0] == Gpu("amd", "Instinct MI300X", 1000, "0xabc")
    assert gpus.sample() == pytest.approx(
        {
            "gpu.0.gpu": 50, "gpu.0.memoryReadWriteActivity": 20, "gpu.0.memoryAllocated": 40,
            "gpu.0.temp": 72, "gpu.0.powerWatts": 200, "gpu.0.powerPercent": 200 / 3,
            "gpu.1.gpu": 7, "gpu.1.temp": 41,
        }
    )  # fmt: skip
    assert AmdGpus(tmp_path / "none").sample() == {}
