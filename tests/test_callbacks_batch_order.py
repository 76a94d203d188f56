"""Ends of batches that come in any order, of any thread, are handed on in the order they began."""

from __future__ import annotations

import copy
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wandbkeras.callbacks.batch_order import BatchOrder


@given(
    steps=st.integers(1, 4), executions=st.integers(1, 12), seed=st.randoms(use_true_random=False)
)
def test_any_order_becomes_that_of_the_beginnings(
    steps: int, executions: int, seed: random.Random
) -> None:
    """Executions of several batches too, which begin while earlier ones have not ended."""
    order, found = BatchOrder(), list[tuple[int, str]]()
    begun: list[int] = []
    waiting = list(range(0, executions * steps, steps))
    while waiting or begun:
        if waiting and (not begun or seed.random() < 0.5):
            begun.append(waiting.pop(0))
            order.begin(begun[-1])
        else:
            last = begun.pop(seed.randrange(len(begun))) + steps - 1
            found += order.end(last, f"logs of {last}")
    ends = range(steps - 1, executions * steps, steps)
    assert found == [(last, f"logs of {last}") for last in ends]


def test_threads_hand_on_one_after_the_other() -> None:
    """What four threads deliver arrives once and in order, while the executions still begin."""
    order, found = BatchOrder(), list[int]()

    def end(batch: int) -> None:
        for last, _ in order.end(batch, {}):
            found.append(last)

    with ThreadPoolExecutor(4) as threads:
        for batch in range(2_000):
            order.begin(batch)
            threads.submit(end, batch)
    assert found == list(range(2_000))


def test_who_tells_of_no_beginning_is_taken_at_his_word() -> None:
    """A loop of one's own may call the hook of a batch's end alone."""
    order = BatchOrder()
    assert [list(order.end(batch, None)) for batch in (3, 1)] == [[(3, None)], [(1, None)]]


@pytest.mark.parametrize("anew", [copy.deepcopy, lambda order: order.clear() or order])
def test_an_interrupted_epoch_holds_up_no_other(anew: object) -> None:
    """What began and never ended is forgotten by the next epoch, and by a copy."""
    order = BatchOrder()
    order.begin(0)
    order.begin(1)
    assert list(order.end(1, None)) == []
    order = anew(order)  # type: ignore[operator]
    order.begin(0)
    assert list(order.end(0, None)) == [(0, None)]
