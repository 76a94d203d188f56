"""Metric definitions: how they merge and what they aggregate, as measured with wandb 0.31."""

from __future__ import annotations

import math
from typing import Any

import pytest

from wandbkeras.store.metrics import MetricDefinition, MetricTable


def _table(*definitions: MetricDefinition) -> MetricTable:
    table = MetricTable()
    for definition in definitions:
        table.define(definition)
    return table


def _summary(table: MetricTable, *rows: dict[str, Any]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for row in rows:
        table.summarise(row, summary)
    return summary


def test_a_metric_without_a_definition_keeps_its_last_value() -> None:
    """The last value logged is the summary; a None leaves the one before."""
    assert _summary(MetricTable(), {"a": 1}, {"a": 2, "b": "x"}) == {"a": 2, "b": "x"}
    assert _summary(MetricTable(), {"a": 1}, {"a": None}) == {"a": 1}


def test_aggregates_are_of_all_values_logged() -> None:
    """Minimum, maximum, mean, first and last stand in one dict of the summary."""
    table = _table(MetricDefinition("a", summary=("min", "max", "mean", "first", "last")))
    assert _summary(table, {"a": 3}, {"a": 1}, {"b": 0}, {"a": 2}) == {
        "a": {"min": 1, "max": 3, "mean": 2.0, "first": 3, "last": 2},
        "b": 0,
    }


def test_a_nan_spreads_through_the_aggregates_of_numbers() -> None:
    """As online: once a NaN was logged, minimum, maximum and mean are NaN."""
    table = _table(MetricDefinition("a", summary=("min", "max", "mean", "last")))
    summary = _summary(table, {"a": 1.0}, {"a": math.nan}, {"a": 5.0})
    assert all(math.isnan(summary["a"][name]) for name in ("min", "max", "mean"))
    assert summary["a"]["last"] == 5.0


def test_text_and_bools_are_no_numbers() -> None:
    """They count for first and last only."""
    table = _table(MetricDefinition("a", summary=("min", "max", "first", "last")))
    summary = _summary(table, {"a": "warm-up"}, {"a": 2}, {"a": True})
    assert summary["a"] == {"min": 2, "max": 2, "first": "warm-up", "last": True}


def test_none_hides_a_metric_and_a_later_definition_shows_it_again() -> None:
    """What was logged while it was hidden counts."""
    table = _table(
        MetricDefinition("a", summary=("max",)), MetricDefinition("b", summary=("none",))
    )
    summary = _summary(table, {"a": 5, "b": 1})
    assert summary == {"a": {"max": 5}}
    table.define(MetricDefinition("a", summary=("none",)))
    table.summarise({"a": 9}, summary)
    assert summary == {"a": {"max": 5}}
    table.define(MetricDefinition("a", hidden=True))
    table.summarise({"a": 3}, summary)
    assert summary == {"a": {"max": 5}}
    table.define(MetricDefinition("a", summary=("last",)))
    table.summarise({"a": 2}, summary)
    assert summary == {"a": {"max": 9, "last": 2}}


def test_definitions_of_one_name_add_up_unless_one_overwrites() -> None:
    """A second definition adds its aggregates; with ``overwrite`` it stands alone."""
    table = _table(
        MetricDefinition("a", summary=("max",), step_metric="epoch"),
        MetricDefinition("a", summary=("min",), hidden=True),
    )
    (merged,) = table.all()
    assert merged == MetricDefinition("a", "epoch", hidden=True, summary=("max", "min"))
    table.define(MetricDefinition("a", summary=("mean",)), overwrite=True)
    assert table.all() == [MetricDefinition("a", summary=("mean",))]


def test_a_prefix_defines_the_metrics_that_appear_under_it() -> None:
    """A definition by name goes before one by prefix, and W&B's own names are left alone."""
    table = _table(
        MetricDefinition("val*", summary=("min",)), MetricDefinition("val_acc", summary=("max",))
    )
    rows = ({"val_loss": 2, "val_acc": 1, "_val": 1}, {"val_loss": 3, "val_acc": 0, "_val": 3})
    assert _summary(table, *rows) == {"val_loss": {"min": 2}, "val_acc": {"max": 1}, "_val": 3}


def test_a_summary_set_explicitly_ends_the_aggregation() -> None:
    """After ``forget`` the last value logged counts, unless the metric is hidden."""
    table = _table(
        MetricDefinition("a", summary=("max",)), MetricDefinition("b", summary=("none",))
    )
    summary = _summary(table, {"a": 5, "b": 5})
    for key in ("a", "b", "c"):
        table.forget(key)
        summary[key] = 77
    table.summarise({"a": 1, "b": 1, "c": 1}, summary)
    assert summary == {"a": 1, "b": 77, "c": 1}


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_step_metric_is_added_where_it_lacks(overwrite: bool) -> None:
    """A synced metric has the latest number of its x-axis in its row, 0 before the first."""
    table = MetricTable()
    table.define(MetricDefinition("loss", step_metric="epoch", step_sync=True), overwrite=overwrite)
    table.define(MetricDefinition("acc", step_metric="epoch"), overwrite=overwrite)
    assert table.missing_step_metrics({"loss": 1}) == {"epoch": 0}
    assert table.missing_step_metrics({"loss": 1, "epoch": 3}) == {}
    table.summarise({"loss": 1, "epoch": 3}, {})
    assert table.missing_step_metrics({"loss": 1}) == {"epoch": 3}
    table.summarise({"epoch": "x"}, {})
    assert table.missing_step_metrics({"loss": 1}) == {"epoch": 3}
    assert table.missing_step_metrics({"acc": 1}) == {}


def test_a_table_comes_back_from_its_document() -> None:
    """What a manifest holds goes on where the writer was."""
    table = _table(
        MetricDefinition("a", summary=("max", "mean"), step_metric="epoch", step_sync=True),
        MetricDefinition("*", summary=("last",)),
    )
    summary = _summary(table, {"a": 3, "b": 1}, {"a": 1})
    table.summarise({"epoch": 4}, {})
    again = MetricTable.from_document(table.to_document())
    assert again.to_document() == table.to_document()
    again.summarise({"a": 2, "c": 5}, summary)
    assert summary == {"a": {"max": 3, "mean": 2.0}, "b": {"last": 1}, "c": {"last": 5}}
    assert again.missing_step_metrics({"a": 1}) == {"epoch": 4}


def test_what_a_prefix_says_is_not_told_twice() -> None:
    """As W&B is told online: a metric is named beside its glob only where it differs from it."""
    table = _table(MetricDefinition("v*", summary=("max",)), MetricDefinition("va", hidden=True))
    table.summarise({"va": 1, "vb": 2, "w": 3}, {})
    assert [definition.name for definition in table.all()] == ["va", "vb", "v*"]
    assert [definition.name for definition in table.told()] == ["va", "v*"]
