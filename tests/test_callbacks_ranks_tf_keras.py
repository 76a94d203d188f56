"""Two processes train one model of ``tf_keras`` under MultiWorkerMirroredStrategy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tf_keras_workers import BATCHES, EPOCHS
from tests.workers import train_together
from wandbkeras import Store


@pytest.mark.tensorflow
def test_two_processes_are_one_run(tmp_path: Path) -> None:
    """The chief has the metrics; what would be read from the model by it alone is left out."""
    said = train_together(tmp_path, "tests.tf_keras_workers")
    (run,) = Store(tmp_path).runs()
    assert (run.info.id, run.state, run.damage) == ("k3j9x2ab", "finished", [])
    rows = [row.values for row in run.rows()]
    assert len(rows) == EPOCHS * (BATCHES + 1)
    epochs = [row for row in rows if "epoch" in row]
    assert [row["loss"] for row in epochs] == pytest.approx(run.summary["losses"])
    assert [row["learning_rate"] for row in epochs] == pytest.approx([0.01] * EPOCHS)
    assert sorted(view.state.beside for view in run.attempts) == [False, True]
    for part in ("WeightHistograms", "BestCheckpoint"):
        (text,) = [text for text in said if f"{part} is left out: 2 processes" in text]
    assert text.count("wandbkeras: ") == run.folded.failures == 2
