"""The examples in docstrings run as written."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil
from pathlib import Path

import pytest

import wandbkeras

# What can be imported only where its framework is.
ABSENT = {
    f"wandbkeras.callbacks.backends.{name}"
    for name in ("jax", "tensorflow", "torch")
    if importlib.util.find_spec(name) is None
}
MODULES = [
    "wandbkeras",
    *(
        module.name
        for module in pkgutil.walk_packages(wandbkeras.__path__, "wandbkeras.")
        if module.name not in ABSENT
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every ``>>>`` of the module gives what its docstring says."""
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
