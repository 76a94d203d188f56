"""Reading the journal: every whole frame is read, every damaged byte is noticed."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.journals import HEADER, write_journal
from tests.strategies import canonical, values
from wandbkeras.errors import NewerFormatError
from wandbkeras.store.journal import MAGIC, encode_frame
from wandbkeras.store.journal_reader import read_journal

records = st.lists(values, min_size=1, max_size=4)


@given(items=st.lists(records, max_size=6))
def test_what_is_written_is_read(tmp_path: Path, items: list[Any]) -> None:
    """Any records come back in order, with nothing torn and nothing damaged."""
    write_journal(tmp_path / "j.wbk", items)
    journal = read_journal(tmp_path / "j.wbk")
    assert canonical(journal.records) == canonical(items)
    assert journal.header == {"format": "wandbkeras-journal", "version": 1, **HEADER}
    assert (journal.torn, journal.damage) == (0, [])


def test_a_cut_at_any_byte_leaves_the_whole_frames_before_it(tmp_path: Path) -> None:
    """A journal cut anywhere holds the frames before the cut, and ``torn`` counts the rest."""
    items = [["a", 1], ["b", {"x": 1.5}], ["c" * 300], ["d", None]]
    path = tmp_path / "j.wbk"
    sizes = write_journal(path, items)
    data = path.read_bytes()
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        journal = read_journal(path)
        whole = sum(size <= cut for size in sizes) - 1
        assert journal.records == items[: max(whole, 0)]
        assert journal.torn == cut - (sizes[whole] if whole >= 0 else 0)
        assert journal.damage == []


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_any_flipped_byte_is_noticed_and_costs_one_frame(tmp_path: Path, flip: int) -> None:
    """Damage never passes for data: it is reported, and the frames around it are still read."""
    items = [["a", 1], ["b", {"x": 1.5}], ["c" * 40], ["d", None]]
    path = tmp_path / "j.wbk"
    sizes = write_journal(path, items)
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(_flipped(data, position, flip))
        journal = read_journal(path)
        if position < sizes[0]:
            assert journal.records == items
            (damage,) = journal.damage
            assert damage.offset <= position < damage.offset + damage.size
            continue
        hit = sum(size <= position for size in sizes) - 1
        assert journal.records == items[:hit] + items[hit + 1 :]
        lost = sum(damage.size for damage in journal.damage) + journal.torn
        assert lost == sizes[hit + 1] - sizes[hit]


@given(
    items=st.lists(records, min_size=1, max_size=5),
    spot=st.floats(0, 1, exclude_max=True),
    garbage=st.binary(min_size=1, max_size=30),
)
def test_garbage_in_the_middle_costs_only_what_it_covers(
    tmp_path: Path, items: list[Any], spot: float, garbage: bytes
) -> None:
    """Whatever overwrites part of a journal, every frame that it leaves whole is read."""
    path = tmp_path / "j.wbk"
    sizes = write_journal(path, items)
    data = bytearray(path.read_bytes())
    begin = sizes[0] + int(spot * (sizes[-1] - sizes[0]))
    end = min(begin + len(garbage), len(data))
    data[begin:end] = garbage[: end - begin]
    path.write_bytes(data)
    journal = read_journal(path)
    found = [canonical(record) for record in journal.records]
    for item, start, stop in zip(items, sizes[:-1], sizes[1:], strict=True):
        if stop <= begin or start >= end:
            assert canonical(item) in found
    assert len(found) <= len(items)


def test_damage_of_megabytes_costs_only_what_it_covers(tmp_path: Path) -> None:
    """Whatever a disk gives back in place of a stretch of a journal, what follows is read.

    One byte in a thousand of it may begin a frame of megabytes.
    """
    path = tmp_path / "j.wbk"
    items = [["history", step, 1.0, 1.0, {"loss": step / 7}] for step in range(40_000)]
    sizes = write_journal(path, items)
    data = bytearray(path.read_bytes())
    first, last = 10_000, 30_000
    begin, end = sizes[first] + 10, sizes[last]
    others = {
        "garbage": Random(1).randbytes(end - begin),
        "zeros": bytes(end - begin),
        "lengths": (1 << 16).to_bytes(4, "little") * ((end - begin) // 4),
    }
    for what, content in others.items():
        damaged = data[:begin] + content + data[begin + len(content) :]
        path.write_bytes(damaged)
        journal = read_journal(path)
        steps = [record[1] for record in journal.records]
        assert steps == [*range(first), *range(last, 40_000)], what
        (damage,) = journal.damage
        assert (damage.offset, damage.size) == (sizes[first], sizes[last] - sizes[first])


def test_a_line_says_where_damage_is(tmp_path: Path) -> None:
    """Damage is reported with the file, the bytes and the reason."""
    path = tmp_path / "j.wbk"
    sizes = write_journal(path, [["a"], ["b"]])
    data = path.read_bytes()
    path.write_bytes(_flipped(data, sizes[0], 1))
    (damage,) = read_journal(path).damage
    assert str(damage).startswith(f"{path}: {sizes[1] - sizes[0]} bytes at offset {sizes[0]}: ")


def test_a_sound_frame_that_is_no_record_is_damage(tmp_path: Path) -> None:
    """A frame whose checksum holds and whose payload makes no sense is reported, not read."""
    path = tmp_path / "j.wbk"
    write_journal(path, [["a"], {"not": "a list"}, [], ["b"]])
    journal = read_journal(path)
    assert journal.records == [["a"], ["b"]]
    assert [damage.reason for damage in journal.damage] == ["a frame that is no record"] * 2


def test_a_newer_journal_is_refused(tmp_path: Path) -> None:
    """A journal of a later format version is not guessed at."""
    path = tmp_path / "j.wbk"
    header = {"format": "wandbkeras-journal", "version": 2, "attempt": 0}
    path.write_bytes(MAGIC + encode_frame(header) + encode_frame(["a"]))
    with pytest.raises(NewerFormatError, match="format version 2, this wandbkeras reads 1"):
        read_journal(path)


@pytest.mark.parametrize("data", [b"PAR1", b"hello world", b"\0" * 100])
def test_another_file_is_no_journal(tmp_path: Path, data: bytes) -> None:
    """A file without a sound frame is damage as a whole, and nothing is read from it."""
    (tmp_path / "j.wbk").write_bytes(data)
    journal = read_journal(tmp_path / "j.wbk")
    assert journal.records == []
    (damage,) = journal.damage
    assert (damage.offset, damage.size) == (0, len(data))
    assert "not a journal" in damage.reason


def _flipped(data: bytes, position: int, flip: int) -> bytes:
    return data[:position] + bytes([data[position] ^ flip]) + data[position + 1 :]
