"""The gradients of chosen training steps, counted where the optimizer has them in its hands.

For one call, a second train function takes the place of the model's own, and while that call runs
the optimizers say what they update with. All other steps run untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras

# Where gradients are unscaled, accumulated and clipped; private to Keras.
EXACT = "_backend_update_step"
# Public, and called with the gradients as they were computed.
RAW = "apply"


class GradientTap:
    """Lets a ``counter`` see the updates of the steps for which it is armed.

    ``counter`` is the backend's ``UpdateCounter``. ``error`` is what kept it from counting, None if
    nothing did: the step itself goes on.
    """

    def __init__(self, model: keras.Model, counter: Any) -> None:
        self.model = model
        self.counter = counter
        self.error: Exception | None = None
        self._untapped: Callable[..., Any] | None = None
        self._tapped: Callable[..., Any] | None = None

    @property
    def may_skip(self) -> bool:
        """Whether there are steps without an update."""
        scales = hasattr(getattr(self.model, "optimizer", None), "inner_optimizer")
        leaves = leaf_optimizers(self.model)
        return scales or any(getattr(leaf, "gradient_accumulation_steps", 0) for leaf in leaves)

    def arm(self) -> None:
        """Count the updates of the next call of the model's train function."""
        untapped = self.model.train_function
        if untapped == self._run_once:
            return  # a step that was to be followed was interrupted before it began
        if self._tapped is None or self._untapped != untapped:
            # The model's own has been made anew since: what it trains may be something else.
            self._untapped, self._tapped = untapped, self._second_train_function()
        self.model.train_function = self._run_once

    def _second_train_function(self) -> Callable[..., Any]:
        """Return a train function that is not compiled yet; the model keeps its own."""
        model, own = self.model, self.model.train_function
        step = model.train_step
        # A function of its own: JAX would find what it compiled of an equal one.
        vars(model)["train_step"] = lambda *arguments: step(*arguments)
        try:
            model.make_train_function(force=True)
            made: Callable[..., Any] = model.train_function
        finally:
            del vars(model)["train_step"]
            model.train_function = own
        return made

    def _run_once(self, *arguments: Any) -> Any:
        self.model.train_function = self._untapped
        assert self._tapped is not None
        with ExitStack() as taps:
            for optimizer in leaf_optimizers(self.model):
                taps.enter_context(self._tap(optimizer))
            return self._tapped(*arguments)

    @contextmanager
    def _tap(self, optimizer: Any) -> Iterator[None]:
        """Have the optimizer call the counter before it updates, and leave nothing on it."""
        name = tap_point(optimizer)
        update = getattr(optimizer, name)

        def counted(gradients: Any, variables: Any = None, *others: Any) -> Any:
            self._count(optimizer, gradients, variables)
            return update(gradients, variables, *others)

        # Not setattr: TensorFlow's optimizers track what is set on them.
        own = vars(optimizer)
        was_there = name in own
        own[name] = counted
        try:
            yield
        finally:
            if was_there:
                own[name] = update
            else:
                del own[name]

    def _count(self, optimizer: Any, gradients: Any, variables: Any) -> None:
        """Hand on what is there.

        Keras calls this within its own step, where no hook's guard is around it. So what fails is
        kept for the end of the epoch, where a hook raises it, and the step goes on.
        """
        try:
            known = optimizer._trainable_variables if variables is None else variables
            pairs = [(v, g) for v, g in zip(known, gradients, strict=True) if g is not None]
            self.counter.record(optimizer, *zip(*pairs, strict=True))
        except Exception as error:  # noqa: BLE001 - the callback's edge within the step
            self.error = error


def tap_point(optimizer: Any) -> str:
    """Return the method that is called with the gradients, the exact ones if Keras has it."""
    return EXACT if callable(getattr(optimizer, EXACT, None)) else RAW


def leaf_optimizers(model: keras.Model) -> list[Any]:
    """Return the optimizers that update: the model's, its other ones, without their wrappers."""
    found = [getattr(model, "optimizer", None)]
    found += [v for v in vars(model).values() if isinstance(v, keras.optimizers.Optimizer)]
    leaves: dict[int, Any] = {}
    while found:
        optimizer = found.pop(0)
        inner = getattr(optimizer, "inner_optimizer", None)
        if inner is not None:  # LossScaleOptimizer
            found.append(inner)
        elif inner_ones := getattr(optimizer, "optimizers", None):  # MultiOptimizer
            found += inner_ones
        elif optimizer is not None:
            leaves[id(optimizer)] = optimizer
    return list(leaves.values())
