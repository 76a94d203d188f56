"""Whether a run is there is known without opening the runs of a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from wandbkeras import Store
from wandbkeras.errors import NewerFormatError
from wandbkeras.store import document
from wandbkeras.store.disk import Disk
from wandbkeras.store.run_ids import may_hold_run


def test_a_run_is_known_by_its_directory_or_by_what_it_says(finished: Path) -> None:
    """Also after its directory was renamed, as for a store that finds it."""
    store = finished.parent
    assert may_hold_run(store, "k3j9x2ab")
    assert not may_hold_run(store, "another")
    finished.rename(store / "renamed")
    assert may_hold_run(store, "k3j9x2ab")
    assert Store(store).run("k3j9x2ab").path.name == "renamed"


@pytest.mark.parametrize("is_lost", [False, True])
def test_what_takes_more_to_tell_may_be_any_run(finished: Path, is_lost: bool) -> None:
    """A run whose ``run.json`` is damaged or lost is known by its journal, which a store reads."""
    (finished / "run.json").write_text("{}")
    if is_lost:
        (finished / "run.json").unlink()
    finished.rename(finished.parent / "renamed")
    assert may_hold_run(finished.parent, "k3j9x2ab")
    assert Store(finished.parent).run("k3j9x2ab").path.name == "renamed"


def test_a_run_of_a_later_version_may_be_any(finished: Path) -> None:
    """Whoever opens it says what is the matter; a new run is not made beside it unseen."""
    members = document.read(finished / "run.json")
    document.write(Disk(), finished / "run.json", {**members, "version": 99})
    finished.rename(finished.parent / "renamed")
    with pytest.raises(NewerFormatError):
        Store(finished.parent).run("another")
    assert may_hold_run(finished.parent, "another")


def test_a_directory_that_is_no_run_holds_none(finished: Path) -> None:
    """Nor does a file in the store."""
    (finished.parent / "notes").mkdir()
    (finished.parent / "a-file-another").write_text("")
    assert not may_hold_run(finished.parent, "another")
