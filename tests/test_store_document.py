"""Checksummed JSON documents: what is read is what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import canonical, texts, values
from wandbkeras.errors import DamagedError
from wandbkeras.store import document
from wandbkeras.store.disk import Disk

PATH = Path("run.json")
members = st.dictionaries(
    texts.filter(lambda key: key != "checksum"), values, min_size=1, max_size=4
)
EXAMPLE = {"id": "k3j9x2ab", "created": 1795412700.25, "tags": ["a", "ü"], "notes": None}


@given(members)
def test_what_is_written_is_read(content: dict[str, Any]) -> None:
    """Any members come back, non-finite numbers too."""
    assert canonical(document.decode(document.encode(content), PATH)) == canonical(content)


@given(members)
def test_a_document_is_written_in_one_way_only(content: dict[str, Any]) -> None:
    """The bytes follow from the members: written again they are the same."""
    data = document.encode(content)
    assert document.encode(document.decode(data, PATH)) == data


def test_any_flipped_bit_is_refused() -> None:
    """A changed byte is noticed wherever it is, in white space and in the checksum too."""
    data = document.encode(EXAMPLE)
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            with pytest.raises(DamagedError, match=r"run\.json"):
                document.decode(bytes(changed), PATH)


@pytest.mark.parametrize("cut", range(0, 130, 3))
def test_any_cut_is_refused(cut: int) -> None:
    """A document of which the end is missing is not read."""
    data = document.encode(EXAMPLE)
    assert cut < len(data)
    with pytest.raises(DamagedError):
        document.decode(data[:cut], PATH)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b'"checksum"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": "\\ud800", "checksum": "crc32:00000000"}',
    ],
)
def test_what_is_no_document_is_refused(data: bytes) -> None:
    """Whatever bytes a stranger puts there, the answer is the same error."""
    with pytest.raises(DamagedError, match=r"run\.json"):
        document.decode(data, PATH)


def test_a_document_replaces_the_one_before(tmp_path: Path) -> None:
    """Writing again leaves the new document, and nothing beside it."""
    path = tmp_path / "run.json"
    document.write(Disk(), path, {"n": 1})
    document.write(Disk(), path, {"n": 2})
    assert document.read(path) == {"n": 2}
    assert list(tmp_path.iterdir()) == [path]
