"""What a run of two processes holds, on whatever backend."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.workers import BATCHES, EPOCHS
from wandbkeras import Store


def assert_recorded_once(store: Path, said: Sequence[str], framework: str) -> None:
    """History, histograms and models are the chief's; each process has a writer of one run.

    And its own console and system metrics.
    """
    (run,) = Store(store).runs()
    assert (run.info.id, run.state, run.damage) == ("k3j9x2ab", "finished", [])
    assert [view.number for view in run.attempts] == [0, 0]
    rows = list(run.rows())
    assert [row.step for row in rows] == list(range(EPOCHS * (BATCHES + 1)))
    epochs = [row.values for row in rows if "epoch" in row.values]
    assert [values["epoch"] for values in epochs] == list(range(EPOCHS))
    assert all("parameters/dense.weights" in values for values in epochs)
    rates = [values["learning_rate"] for values in epochs]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > rates[-1]
    best = [version for version in run.artifacts if version.type == "model"]
    assert best
    assert len({version.metadata["epoch"] for version in best}) == len(best)
    assert sorted(view.state.beside for view in run.attempts) == [False, True]
    notices = [text.count("is left out") for text in said]
    assert sorted(notices) == [0, 1], said
    left_out = f"StepGradientHistograms is left out: 2 processes train this model ({framework})"
    assert left_out in "".join(said)
    assert run.folded.failures == 1
    printed = {(line["text"], line["_writer"]) for line in run.console().to_pylist()}
    trains = {(text, writer) for text, writer in printed if text.endswith(" trains")}
    assert {text for text, _ in trains} == {"process 0 trains", "process 1 trains"}
    assert {writer for _, writer in trains} == {0, 1}
    assert {"system.cpu", "system.cpu/l:1"} <= set(run.system_metrics().column_names)
