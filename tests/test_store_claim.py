"""Owning an attempt: no two processes do, and one that withdraws leaves nothing of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from wandbkeras.store.claim import Claim
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout


def test_each_claim_is_another_attempt(layout: Layout) -> None:
    """The next free number is owned, and one that is asked for only if nobody has it."""
    assert [Claim(Disk(), layout).take(None) for _ in range(3)] == [0, 1, 2]
    assert Claim(Disk(), layout).take(7) == 7
    with pytest.raises(FileExistsError):
        Claim(Disk(), layout).take(1)
    assert Claim(Disk(), layout).take(None) == 8


def test_a_number_that_another_process_takes_first_is_passed_over(layout: Layout) -> None:
    """Between looking for the next free number and making its directory somebody else may come."""

    class Rival(Disk):
        """A disk on which another process makes the directory just before."""

        def make_directory(self, path: Path) -> None:
            if path == layout.attempt(0) and not layout.attempt(0).exists():
                layout.attempt(0).mkdir()
            super().make_directory(path)

    assert Claim(Rival(), layout).take(None) == 1


def test_what_is_given_up_leaves_what_others_began(layout: Layout) -> None:
    """An attempt of another process stays, and the run with it; a run that nobody began goes."""
    first, second = Claim(Disk(), layout), Claim(Disk(), layout)
    first.take(None)
    second.take(None)
    second.give_up()
    assert layout.attempt_numbers() == [0]
    layout.info.unlink(missing_ok=True)
    first.give_up()
    assert not layout.root.exists()
