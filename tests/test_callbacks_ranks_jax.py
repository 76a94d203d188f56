"""Two processes train one model on JAX, by `keras.distribution`: it is recorded once."""

from __future__ import annotations

from pathlib import Path

from tests.ranks import assert_recorded_once
from tests.workers import train_together


def test_two_processes_are_one_run(tmp_path: Path) -> None:
    """None blocks or aborts the other, with weights, a schedule and models recorded."""
    said = train_together(tmp_path)
    assert_recorded_once(tmp_path, said, "jax.distributed")
