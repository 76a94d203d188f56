"""Which packages are said to be installed, beside what Python's own metadata says."""

from __future__ import annotations

import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from wandbkeras.context.packages import installed


def test_the_packages_are_those_that_python_knows() -> None:
    """Names and versions are those of the metadata, as its own parser reads them."""
    known = {d.metadata["Name"]: d.version for d in reversed(list(distributions()))}
    assert installed().items() <= known.items()
    assert {name.lower().replace("_", "-") for name in known} == {
        name.lower().replace("_", "-") for name in installed()
    }


def test_of_two_versions_the_first_counts_and_what_is_broken_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is that of ``sys.path``; a body that looks like a header is none."""
    for place, version in (("first", "2.0"), ("second", "1.0")):
        folder = tmp_path / place / f"Some_Pkg-{version}.dist-info"
        folder.mkdir(parents=True)
        text = f"Metadata-Version: 2.1\nName: Some_Pkg\nVersion: {version}\n\nName: other\n"
        (folder / "METADATA").write_text(text)
    broken = tmp_path / "first" / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Name: broken\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(tmp_path / "second")])
    assert installed() == {"Some_Pkg": "2.0"}
