"""``run.config`` and ``run.summary``: dictionaries whose changes are recorded at once."""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Callable
from typing import Any

import pytest

import wandbkeras
from wandbkeras.errors import UnsupportedValueError, UsageError
from wandbkeras.store.reader import StoredRun

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]


def test_a_config_stays_nested(start: Start, stored: Stored) -> None:
    """Dicts in a config are kept as they are, unlike in a row."""
    config = {"lr": 1e-3, "model": {"layers": [32, 16], "dropout": {"rate": 0.5}}, "none": None}
    run = start(config=config)
    assert stored(run).config == config
    run.finish()
    assert stored(run).config == config == dict(run.config)


def test_a_config_comes_from_a_namespace(start: Start, stored: Stored) -> None:
    """The arguments of a script are a config."""
    arguments = argparse.Namespace(lr=0.1, path="data")
    run = start(config=arguments)
    run.config.update(argparse.Namespace(epochs=3))
    assert stored(run).config == {"lr": 0.1, "path": "data", "epochs": 3}


def test_items_are_attributes_too(start: Start, stored: Stored) -> None:
    """Reading, setting and deleting work both ways."""
    run = start(config={"lr": 0.1, "gone": 1})
    run.config.batch = 32
    run.config["epochs"] = 5
    assert (run.config.lr, run.config["batch"], run.config.epochs) == (0.1, 32, 5)
    del run.config["gone"]
    assert "gone" not in run.config
    assert len(run.config) == 3
    assert list(run.config) == ["lr", "batch", "epochs"]
    assert stored(run).config == run.config.as_dict() == {"lr": 0.1, "batch": 32, "epochs": 5}
    with pytest.raises(AttributeError, match="Config has no 'momentum'"):
        run.config.momentum  # noqa: B018
    with pytest.raises(KeyError):
        del run.config["momentum"]
    assert repr(run.config) == "{'lr': 0.1, 'batch': 32, 'epochs': 5}"


def test_a_config_value_changes_only_when_that_is_said(start: Start, stored: Stored) -> None:
    """A second value needs ``allow_val_change``; the same value again is fine."""
    run = start(config={"lr": 0.1, "nan": math.nan})
    with pytest.raises(UsageError, match=r"config 'lr': is 0.1, received 0.2: .*allow_val_change"):
        run.config.lr = 0.2
    with pytest.raises(UsageError, match="config 'lr'"):
        run.config.update({"new": 1, "lr": 0.2})
    assert "new" not in run.config
    run.config.lr = 0.1
    run.config.update({"nan": math.nan})
    run.config.update({"lr": 0.2}, allow_val_change=True, more=1)
    assert stored(run).config["lr"] == run.config.lr == 0.2
    assert run.config.more == 1


def test_defaults_fill_only_what_is_not_set(start: Start) -> None:
    """``setdefaults`` returns the whole config, as wandb's does."""
    run = start(config={"lr": 0.1})
    assert run.config.setdefaults({"lr": 1.0, "batch": 8}) == {"lr": 0.1, "batch": 8}


def test_a_summary_is_the_last_value_and_what_is_set(start: Start, stored: Stored) -> None:
    """Logging and setting both change it; each change is on disk at once."""
    run = start()
    run.log({"loss": 1.0, "val": {"acc": 0.5}})
    assert dict(run.summary) == {"loss": 1.0, "val.acc": 0.5}
    run.summary["best"] = {"epoch": 3, "loss": 0.5}
    run.summary.update({"loss": 7.0}, test=True)
    assert stored(run).summary == dict(run.summary)
    assert run.summary["best"]["epoch"] == 3
    assert (run.summary.loss, run.summary.test) == (7.0, True)
    run.log({"loss": 2.0})
    del run.summary["test"]
    run.finish()
    expected = {"loss": 2.0, "val.acc": 0.5, "best": {"epoch": 3, "loss": 0.5}}
    assert stored(run).summary == dict(run.summary) == expected


def test_an_open_row_is_not_in_the_summary_yet(start: Start) -> None:
    """A value counts when its row is complete, as in wandb."""
    run = start()
    run.log({"loss": 1.0}, commit=False)
    assert "loss" not in run.summary
    run.log({})
    assert run.summary["loss"] == 1.0


def test_a_summary_refuses_what_a_row_refuses(start: Start) -> None:
    """The message names the key; nothing changes."""
    run = start()
    with pytest.raises(UnsupportedValueError, match="'a': received an object"):
        run.summary.update({"fine": 1, "a": object()})
    assert dict(run.summary) == {}


def test_changing_what_was_read_changes_no_record(start: Start, stored: Stored) -> None:
    """A nested value that is changed in place stays as it was recorded."""
    run = start(config={"model": {"layers": [1]}})
    run.config["model"]["layers"].append(2)
    assert run.config["model"] == stored(run).config["model"] == {"layers": [1]}


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_mapping_is_copied_like_any_object(start: Start, copied: Callable[[Any], Any]) -> None:
    """Libraries that copy their arguments may be given a config."""
    run = start(config={"lr": 0.1})
    assert dict(copied(run.config)) == {"lr": 0.1}
