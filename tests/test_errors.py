"""One tree of errors, each with its exit code."""

from __future__ import annotations

import inspect

from wandbkeras import errors

CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if kind.__module__ == errors.__name__
]


def test_every_error_is_of_the_one_tree() -> None:
    """Whatever this package raises on purpose is a WandbkerasError."""
    assert all(issubclass(kind, errors.WandbkerasError) for kind in CLASSES)


def test_every_error_has_an_exit_code_and_a_docstring() -> None:
    """No error ends the command line with success, and each says when it is raised."""
    assert all(1 <= kind.exit_code <= 125 and kind.__doc__ for kind in CLASSES)


def test_an_exit_code_stands_for_one_class_or_its_kind() -> None:
    """Two classes share an exit code only if one is a kind of the other's parent."""
    owners = {kind.exit_code: kind for kind in sorted(CLASSES, key=lambda kind: -len(kind.__mro__))}
    assert all(issubclass(kind, owners[kind.exit_code].__mro__[-4]) for kind in CLASSES)


def test_an_unsupported_value_is_a_type_error_too() -> None:
    """Code that guards ``log`` against wrong types as with wandb goes on working."""
    assert issubclass(errors.UnsupportedValueError, TypeError)
