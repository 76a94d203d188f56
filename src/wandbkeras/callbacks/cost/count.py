"""How much a program computes, as a value that adds up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flops:
    """What a program computes.

    Attributes:
        multiply_adds: those of matrix products and convolutions, of convolutions each place of the
            kernel at each place that is put out, also where it meets padding; of transposed ones
            at each place that is taken in.
        elementwise: what TensorFlow's profiler counts beside them, per element that is put out:
            one for additions, subtractions, multiplications, divisions, powers, squares,
            logarithms, negations, maxima, minima, comparisons and biases, two for an inverse root,
            five for a softmax, the size of its window for pooling; and per element that is summed,
            averaged or searched, one. Other functions (ReLU, exponential, tanh, …) count nothing.
        unresolved: what could not be counted, or only in part, a line each: then the numbers are
            too small.
    """

    multiply_adds: int = 0
    elementwise: int = 0
    unresolved: tuple[str, ...] = ()

    @property
    def gmacs(self) -> float:
        """Multiply-adds, in 10⁹: what papers mostly give."""
        return self.multiply_adds / 1e9

    @property
    def gflops_total(self) -> float:
        """The operations of the multiply-adds, two each, in 10⁹."""
        return 2 * self.multiply_adds / 1e9

    @property
    def gflops(self) -> float:
        """What wandb's callback called ``GFLOPs``: multiply-adds and half of the rest, in 10⁹.

        It halved what TensorFlow's profiler had counted.
        """
        return (2 * self.multiply_adds + self.elementwise) / 2e9

    def __add__(self, other: Flops) -> Flops:
        return Flops(
            self.multiply_adds + other.multiply_adds,
            self.elementwise + other.elementwise,
            tuple(dict.fromkeys((*self.unresolved, *other.unresolved))),
        )

    def times(self, number: int) -> Flops:
        """Return what a program computes that does this so many times.

        >>> Flops(2, 1).times(3) + Flops(unresolved=("a loop",))
        Flops(multiply_adds=6, elementwise=3, unresolved=('a loop',))
        """
        return Flops(self.multiply_adds * number, self.elementwise * number, self.unresolved)

    def shared_by(self, number: int) -> Flops:
        """Return the part of one of so many samples."""
        return Flops(self.multiply_adds // number, self.elementwise // number, self.unresolved)

    def not_knowing(self, what: str) -> Flops:
        """Return the same, which says that it is not all."""
        return self + Flops(unresolved=(what,))


def largest(branches: list[Flops]) -> Flops:
    """Return the branch that computes most, which says so if they differ."""
    most = max(branches, key=lambda flops: flops.gflops)
    if len({(flops.multiply_adds, flops.elementwise) for flops in branches}) == 1:
        return most
    return most.not_knowing("of the branches of a condition only the largest is counted")
