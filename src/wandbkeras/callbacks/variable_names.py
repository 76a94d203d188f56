"""The names under which a model's variables are recorded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras


class VariableNames:
    """Gives each variable of a model a name of its own: its path, without the model's own name.

    Variables with the same path, as of equally named layers in two sub-models, are numbered in the
    order of the model.
    """

    def __init__(self, model: keras.Model) -> None:
        self._own = f"{model.name}/"
        self._names: dict[int, str] = {}
        self._taken: dict[str, int] = {}
        for variable in _each_once(model.weights):
            self.of(variable)

    def of(self, variable: Any) -> str:
        """Return the name of a variable, also of one that is not the model's own."""
        name = self._names.get(id(variable))
        if name is None:
            # Under tf_keras a variable has a name alone, which is its path.
            path = getattr(variable, "path", None) or variable.name.removesuffix(":0")
            path = path.removeprefix(self._own)
            number = self._taken.get(path, 0)
            self._taken[path] = number + 1
            name = self._names[id(variable)] = f"{path}_{number}" if number else path
        return name


def parameter_keys(model: keras.Model) -> Iterable[tuple[str, Any]]:
    """Yield each weight of the model once, with the key under which its histogram is logged.

    A layer of the model itself with one array, or with two, has wandb's keys
    ``parameters/<layer>.weights`` and ``.bias``; all others have ``parameters/<path>``.
    """
    names = VariableNames(model)
    keys: dict[int, str] = {}
    taken: set[str] = set()
    for layer in model.layers:
        of_layer = _each_once(layer.weights)
        if len(of_layer) <= 2 and layer.name not in taken:
            taken.add(layer.name)
            for variable, ending in zip(of_layer, ("weights", "bias"), strict=False):
                keys.setdefault(id(variable), f"parameters/{layer.name}.{ending}")
    for variable in _each_once(model.weights):
        yield keys.get(id(variable)) or f"parameters/{names.of(variable)}", variable


def gradient_key(name: str) -> str:
    """Return the key of a variable's gradient: wandb's, where Keras names as it did then.

    >>> gradient_key("dense/kernel")
    'gradients/dense/kernel.gradient'
    """
    return f"gradients/{name}.gradient"


def _each_once(variables: Iterable[Any]) -> list[Any]:
    return list({id(variable): variable for variable in variables}.values())
