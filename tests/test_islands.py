"""Imports go down only: read from the import statements themselves."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import wandbkeras

ROOT = Path(wandbkeras.__file__).parent
# What each part of the package may import of it, beside itself. The roots, `errors`, `binning` and
# `data_types`, stand below everything.
ALLOWED = {
    "errors": set(),
    "binning": set(),
    "data_types": {"errors", "binning"},
    "store": {"errors"},
    "context": {"errors", "store"},
    "recording": {"errors", "data_types", "store", "context"},
    "callbacks": {"errors", "binning", "data_types", "store", "recording"},
    "models": {"errors", "store"},
    "sync": {"errors", "data_types", "store"},
    "view": {"errors", "data_types", "store"},
}
KERAS = {"callbacks", "models.py"}
WANDB = {
    "sync/logged_artifact.py",
    "sync/logged_run.py",
    "sync/transaction_log.py",
    "sync/upload.py",
    "sync/readback.py",
}
FRAMEWORKS = {"keras", "tensorflow", "torch", "jax"}

MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def _imported(module: str) -> set[str]:
    """Return the dotted names that a module's import statements name, wherever they stand."""
    names: set[str] = set()
    package = ["wandbkeras", *module.split("/")[:-1]]
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            names.update(f"{source}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("module", [m for m in MODULES if m != "__init__.py"])
def test_a_module_imports_only_what_lies_below_it(module: str) -> None:
    """No part of the package imports one that stands beside or above it."""
    part = module.partition("/")[0].removesuffix(".py")
    below = {name.split(".")[1] for name in _imported(module) if name.startswith("wandbkeras.")} - {
        part
    }
    assert below <= ALLOWED[part]


@pytest.mark.parametrize("module", MODULES)
def test_wandb_and_the_frameworks_stay_behind_their_seams(module: str) -> None:
    """Five modules of sync import wandb, the callbacks import Keras, and no other does."""
    outside = {name.partition(".")[0] for name in _imported(module)}
    assert "wandb" not in outside or module in WANDB
    assert not outside & FRAMEWORKS or module.partition("/")[0] in KERAS


def test_the_package_itself_imports_its_parts_only_on_use() -> None:
    """What ``__init__`` imports of the package stands under TYPE_CHECKING."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    at_import = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in at_import for alias in node.names}
    assert names == {"annotations", "importlib", "TYPE_CHECKING", "Any"}
