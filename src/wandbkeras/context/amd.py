"""AMD's GPUs, by what their driver shows as files, which is where AMD's own tools look too."""

from __future__ import annotations

from pathlib import Path

from wandbkeras.store.environment import Gpu

_VENDOR = "0x1002"


class AmdGpus:
    """The GPUs below ``root``, in the order of their cards; numbered from 0."""

    def __init__(self, root: Path = Path("/")) -> None:
        cards = (root / "sys/class/drm").glob("card[0-9]*/device")
        found = [card for card in cards if _text(card / "vendor") == _VENDOR]
        self._cards = sorted(found, key=lambda card: int(card.parent.name[4:].partition("-")[0]))

    def describe(self) -> list[Gpu]:
        return [
            Gpu(
                vendor="amd",
                name=_text(card / "product_name") or "",
                memory_total=_number(card / "mem_info_vram_total"),
                uuid=_text(card / "unique_id"),
            )
            for card in self._cards
        ]

    def sample(self) -> dict[str, float]:
        """Return the metrics of all GPUs, under the names of W&B's client."""
        return {
            f"gpu.{number}.{name}": value
            for number, card in enumerate(self._cards)
            for name, value in _values(card).items()
            if value is not None
        }


def _values(card: Path) -> dict[str, float | None]:
    total, used = (_number(card / f"mem_info_vram_{name}") for name in ("total", "used"))
    sensors = next(iter(sorted(card.glob("hwmon/hwmon*"))), card)
    power = _number(sensors / "power1_average") or _number(sensors / "power1_input")
    limit, heat = _number(sensors / "power1_cap"), _heat(sensors)
    return {
        "gpu": _number(card / "gpu_busy_percent"),
        "memoryReadWriteActivity": _number(card / "mem_busy_percent"),
        "memoryAllocated": used / total * 100 if total and used is not None else None,
        "temp": None if heat is None else heat / 1e3,
        "powerWatts": None if power is None else power / 1e6,
        "powerPercent": power / limit * 100 if limit and power is not None else None,
    }


def _heat(sensors: Path) -> int | None:
    """Return thousandths of degrees of the memory, which W&B's client shows; else of the chip."""
    labels = (path for path in sensors.glob("temp*_label") if _text(path) == "mem")
    name = next((path.name.removesuffix("_label") for path in labels), "temp1")
    return _number(sensors / f"{name}_input")


def _number(path: Path) -> int | None:
    text = _text(path) or ""
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip() or None
    except OSError:
        return None
