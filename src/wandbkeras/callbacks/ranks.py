"""Which process of a distributed training this is, by what the framework itself answers right now.

Nothing is imported to ask: what isn't loaded distributes nothing. The variables of schedulers and
launchers say nothing here: they are also set where one process trains alone in a job of many tasks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

# Horovod has a module for each framework, and each answers for itself.
_HOROVOD = ("tensorflow", "tensorflow.keras", "keras", "torch")


@dataclass(frozen=True)
class Rank:
    """Process ``number``, from 0, of ``count`` that train one model; ``framework`` says so.

    ``shares_variables``: a variable may be spread over the processes in such a way that reading it
    takes all of them, and aborts them all if one reads alone.
    """

    number: int = 0
    count: int = 1
    framework: str = ""
    shares_variables: bool = False

    @property
    def is_alone(self) -> bool:
        return self.count == 1

    @property
    def is_chief(self) -> bool:
        """Whether this is the process that records what all have in common."""
        return self.number == 0


ALONE = Rank()


def live_rank(model: Any = None) -> Rank:
    """Return the rank of this process in the training of ``model``; asked anew each time.

    >>> live_rank() == ALONE
    True
    """
    asked: Sequence[Callable[[], Rank | None]] = (
        lambda: _of_strategy(model),
        _of_jax,
        _of_torch,
        _of_horovod,
    )
    for ask in asked:
        rank = ask()
        if rank is not None and not rank.is_alone:
            return rank
    return ALONE


def _of_strategy(model: Any) -> Rank | None:
    """Ask the strategy of ``tf.distribute`` under which the model was made."""
    strategy = getattr(model, "distribute_strategy", None)
    resolver = getattr(strategy, "cluster_resolver", None)
    if resolver is None or not resolver.task_type:
        return None
    # Workers train; a chief is the first of them, else worker 0 is.
    jobs = resolver.cluster_spec().as_dict()
    chiefs, workers = (len(jobs.get(name, ())) for name in ("chief", "worker"))
    before = chiefs if resolver.task_type == "worker" else 0
    number = int(resolver.task_id or 0) + before
    return Rank(number, max(chiefs + workers, 1), "tf.distribute", shares_variables=True)


def _of_jax() -> Rank | None:
    jax = sys.modules.get("jax")
    # Asking for the number of processes would start the backend, too early for others to say how.
    is_initialized = getattr(getattr(jax, "distributed", None), "is_initialized", None)
    if jax is None or is_initialized is None or not is_initialized():
        return None
    return Rank(int(jax.process_index()), int(jax.process_count()), "jax.distributed")


def _of_torch() -> Rank | None:
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return Rank(distributed.get_rank(), distributed.get_world_size(), "torch.distributed")


def _of_horovod() -> Rank | None:
    for name in _HOROVOD:
        horovod = sys.modules.get(f"horovod.{name}")
        is_initialized: Callable[[], bool] | None = getattr(horovod, "is_initialized", None)
        if horovod is not None and is_initialized is not None and is_initialized():
            return Rank(int(horovod.rank()), int(horovod.size()), "Horovod")
    return None
