"""Which pictures show a model's inputs, outputs and targets together, as wandb's callback did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wandbkeras.callbacks.labels import captions
from wandbkeras.callbacks.pictures import PICTURES, Look, guessed_kind, look_of
from wandbkeras.data_types import Image
from wandbkeras.data_types.pixels import Array
from wandbkeras.errors import UsageError

Slots = Mapping[str, Array]


@dataclass(frozen=True)
class Drawing:
    """How rows are shown, decided once for all epochs.

    Attributes:
        input, output: how their pictures look, None for what has none.
        caption: ``input`` or ``output``, whichever is a label; None: there is none.
    """

    input: Look | None
    output: Look | None
    caption: str | None

    def images(
        self,
        inputs: Slots,
        outputs: Slots,
        targets: Slots,
        labels: Sequence[str],
        thresholds: Mapping[str, float],
    ) -> list[Image]:
        """Return the pictures, row by row: input, prediction, reference, as far as there are."""
        texts = None
        if self.caption is not None:
            numbers = _labels(inputs if self.caption == "input" else outputs)
            texts = captions(numbers, labels, thresholds)
        columns = []
        if self.input is not None:
            columns.append(self.input.images(inputs[self.input.slot], texts))
        if self.output is not None:
            columns.append(self.output.images(outputs[self.output.slot], texts))
            reference = references(outputs, targets).get(self.output.slot)
            if reference is not None:
                columns.append(self.output.images(reference, texts))
        return [image for row in zip(*columns, strict=True) for image in row]


def drawing_of(
    inputs: Slots,
    outputs: Slots,
    targets: Slots,
    input_type: str | None,
    output_type: str | None,
    labels: Sequence[str] = (),
    colors: Array | None = None,
) -> Drawing:
    """Return how to show these rows; what is ``auto`` is guessed from their shapes.

    Raises:
        UsageError: the types are not those of pictures, or the shapes are not those of the types.
    """
    if input_type == "auto":
        input_type = guessed_kind(shapes_of(inputs), risky=True)
    if output_type == "auto" or (output_type is None and input_type is not None):
        output_type = guessed_kind(shapes_of(outputs), risky=False)
    check_types(input_type, output_type)
    caption = "output" if output_type == "label" else "input" if input_type == "label" else None
    classes = len(labels)
    return Drawing(
        look_of(inputs, input_type, colors, classes) if input_type in PICTURES else None,
        look_of(outputs, output_type, colors, classes, references(outputs, targets))
        if output_type in PICTURES
        else None,
        caption,
    )


def check_types(input_type: str | None, output_type: str | None) -> None:
    """Raise a UsageError if no picture comes of these kinds."""
    if input_type not in PICTURES and output_type not in PICTURES:
        raise UsageError(
            f"examples: the input_type is {input_type!r} and the output_type is {output_type!r}; "
            f"expected one of {', '.join(PICTURES)} for at least one of them"
        )


def references(outputs: Slots, targets: Slots) -> dict[str, Array]:
    """Return the target of each output: that of its name, else of its place among as many."""
    if outputs.keys() & targets.keys() or len(outputs) != len(targets):
        return {name: targets[name] for name in outputs if name in targets}
    return dict(zip(outputs, targets.values(), strict=True))


def _labels(slots: Slots) -> dict[str, Array]:
    return {name: values for name, values in slots.items() if values.ndim <= 2} or dict(slots)


def shapes_of(slots: Slots) -> dict[str, Sequence[int]]:
    """Return the shape of each slot, rows included."""
    return {name: values.shape for name, values in slots.items()}
