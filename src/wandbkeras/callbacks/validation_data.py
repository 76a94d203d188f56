"""Where the validation data come from that examples and tables show."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from wandbkeras.callbacks.batches import (
    Batches,
    KeptBatches,
    StreamBatches,
    batches_of,
)
from wandbkeras.callbacks.fit_data import (
    FitData,
    from_evaluation,
    from_frame,
    training_arrays,
)
from wandbkeras.callbacks.part import Part, never_raises
from wandbkeras.callbacks.randomness import untouched_randomness
from wandbkeras.callbacks.streams import is_iterator
from wandbkeras.errors import UsageError

_NONE_FOUND = (
    "there are no validation data to show: pass validation_data=(x, y), or generator= and "
    "validation_steps=, to the callback"
)
_ONE_BATCH = "validation_steps is not given, so one batch of the generator was taken"
_PEEKED = (
    "fit validates with a generator, which is not advanced: pass generator= and validation_steps=, "
    "or validation_data=(x, y), to the callback"
)


class ValidationData(Part):
    """Finds the validation data for the parts that come after it in the list of callbacks.

    The order is: what is given here; what ``fit`` validates with, read from its frame; what Keras's
    own evaluation reads. Keras is not patched. A generator is advanced only if it is given here,
    once for all fits.

    Args:
        validation_data: ``(x, y)`` or ``(x, y, sample_weight)``, where x and y are arrays, or lists
            or dicts of arrays; or a ``tf.data.Dataset``, a PyDataset, a Torch DataLoader.
        generator: instead of them, an iterator of batches ``(x, y)``; ``validation_steps`` of them
            are taken and kept in a file in the run's directory. Without that number one is.
        validation_steps: how many batches of a generator or a dataset to read; default: of
            ``fit``'s dataset as many as ``fit`` evaluates, else all.
        find: whether ``fit``'s own data may be looked for.

    ``batches`` is what was found, while ``fit`` goes on.

    Raises:
        UsageError: the data are nothing that can be read.
    """

    needs = "model"

    def __init__(
        self,
        validation_data: Any = None,
        generator: Any = None,
        validation_steps: int | None = None,
        find: bool = True,
    ) -> None:
        super().__init__()
        if validation_data is not None and generator is not None:
            raise UsageError("validation_data, generator: received both; expected one of them")
        steps = validation_steps
        if steps is not None and (type(steps) is not int or steps < 1):
            raise UsageError(
                f"validation_steps: received {steps!r}; expected a number from 1, or None"
            )
        if is_iterator(validation_data):
            validation_data, generator = None, validation_data
        self.batches: Batches | None = None
        self._generator = self._given = None
        self._steps = steps
        self._find = find
        self._is_awaited = False
        if is_iterator(generator):
            self._generator = generator
        elif generator is not None:
            self._given = batches_of(generator, steps, None, "generator")
        elif validation_data is not None:
            self._given = batches_of(validation_data, steps, None, "validation_data")

    @never_raises
    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self.batches = None
        self._is_awaited = False
        if self.run.disabled:
            return
        if self._generator is not None:
            self._given, self._generator = self._kept(self._generator), None
        self.batches = self._given
        if self.batches is None and self._find:
            found = from_frame(self.model)
            self._is_awaited = found is not None and is_iterator(found.data)
            self.batches = self._of_fit(found)

    @never_raises
    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        if self.batches is None and self._find and not self.run.disabled:
            self.batches = self._of_fit(from_evaluation(self.model))

    @never_raises
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self.batches is None and not self._is_awaited and not self.run.disabled:
            self.notice(_NONE_FOUND)

    @never_raises
    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self.batches is None and not self.run.disabled:
            self.notice(_PEEKED if self._is_awaited else _NONE_FOUND)
        self.batches = None  # fit's data are not kept beyond it

    def sample_inputs(self, model: keras.Model) -> Any:
        """Return the inputs of one row, None if there are none that may be read.

        They are of what is given here, else of what ``fit`` validates with, else of the arrays that
        it trains on.
        """
        batches = self.batches or self._given
        for find in (from_frame, training_arrays) if self._find else ():
            batches = batches or self._of_fit(find(model))
        if batches is None:
            return None
        with untouched_randomness():
            return batches.sample(1, np.random.default_rng(0)).x

    def _of_fit(self, found: FitData | None) -> Batches | None:
        if found is None:
            return None
        if found.peeked:
            return StreamBatches(lambda: found.data, None, _PEEKED)
        steps = self._steps or found.steps
        return batches_of(found.data, steps, found.batch_size, "validation_data of fit")

    def _kept(self, generator: Iterator[Any]) -> Batches:
        """Return what was taken from the user's generator, nothing beyond ``validation_steps``."""
        limit = _ONE_BATCH if self._steps is None else None
        taken = itertools.islice(generator, self._steps or 1)
        # In the run's own directory, without a name: it goes with the process, however that ends.
        file = tempfile.TemporaryFile(dir=self.run.dir)  # noqa: SIM115 - as long as the callback
        with untouched_randomness():
            return KeptBatches(taken, file, limit)
