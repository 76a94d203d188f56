"""The bytes of W&B's transaction log, read by a strict reader and by W&B's own client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wandb.proto import wandb_internal_pb2 as pb

from tests.server.process import LoopbackServer
from tests.syncing import connect, held
from tests.wandb_file import BLOCK, FILE_HEADER, read_records
from wandbkeras.store.schema import Row
from wandbkeras.sync import transaction_log as log
from wandbkeras.sync.log_rows import encode_rows
from wandbkeras.sync.upload import Client

FIRST_BLOCK = BLOCK - len(FILE_HEADER)
CHUNK_HEADER = 7
NUMBER_BYTES = 2  # that a record gets when it is written, below 128
# Around the room in one block and in two.
edges = st.sampled_from([FIRST_BLOCK, BLOCK, 2 * BLOCK]).flatmap(
    lambda room: st.integers(room - 40, room + 10)
)


def text_record(size: int) -> bytes:
    return pb.Record(output_raw=pb.OutputRawRecord(line="x" * size)).SerializeToString()


def ending_record(offset: int, left: int, make: Callable[[int], bytes]) -> bytes:
    """The record whose last chunk ends ``left`` bytes before the end of the block at ``offset``."""
    room = BLOCK - offset % BLOCK - CHUNK_HEADER - left
    for size in range(room, 0, -1):
        record = make(size)
        if len(record) + NUMBER_BYTES == room:
            return record
    raise AssertionError(f"no record of {room} bytes")


def test_a_file_begins_with_seven_bytes(tmp_path: Path) -> None:
    """An empty log is W&B's magic, the number 0xBEE1 and version 0."""
    log.TransactionLog(tmp_path / "run.wandb").close()
    assert (tmp_path / "run.wandb").read_bytes() == b":W&B\xe1\xbe\x00"


def test_an_existing_file_is_not_written_over(tmp_path: Path) -> None:
    """A log is a new file."""
    (tmp_path / "run.wandb").write_bytes(b"someone's")
    with pytest.raises(FileExistsError):
        log.TransactionLog(tmp_path / "run.wandb")


@given(sizes=st.lists(st.integers(0, 300) | edges, max_size=6))
@example(sizes=[0])
@example(sizes=[200_000, 1])
def test_records_of_any_size_are_read_as_they_were_written(
    sizes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A strict reader finds the records whole, in order and numbered from 1."""
    path = tmp_path_factory.mktemp("log") / "run.wandb"
    records = [text_record(size) for size in sizes]
    with log.TransactionLog(path) as file:
        for record in records:
            file.write(record)
    found = [pb.Record.FromString(data) for data in read_records(path)]
    assert [len(record.output_raw.line) for record in found] == sizes
    assert [record.num for record in found] == list(range(1, len(sizes) + 1))


@pytest.mark.parametrize("left", range(9))
def test_a_record_may_end_anywhere_before_the_end_of_a_block(left: int, tmp_path: Path) -> None:
    """Fewer than 7 bytes at the end of a block are zero; in 7 there is a chunk without data."""
    path = tmp_path / "run.wandb"
    first = ending_record(len(FILE_HEADER), left, text_record)
    with log.TransactionLog(path) as file:
        file.write(first)
        assert path.stat().st_size <= BLOCK
        file.write(text_record(3))
    assert [pb.Record.FromString(r).output_raw.line for r in read_records(path)] == [
        pb.Record.FromString(first).output_raw.line,
        "xxx",
    ]


def test_the_released_client_reads_every_end_of_a_block(
    wandb_server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that end 0 to 8 bytes before the end of a block all arrive, as those after them do."""
    connect(wandb_server, tmp_path / "home", monkeypatch)
    folder = tmp_path / "offline-run-20261123_054500-edges"
    (folder / "files").mkdir(parents=True)
    path = folder / "run-edges.wandb"
    lengths = []
    with log.TransactionLog(path) as file:
        for record in _beginning("edges"):
            file.write(record)
        for step in range(9):
            row = ending_record(file.offset, step, lambda size, at=2 * step: _row(at, size))
            file.write(row)
            file.write(_row(2 * step + 1, 1))
            text = pb.Record.FromString(row).history.item[0].value_json
            lengths += [len(text) - 2, 1]
        file.write(log.exit(0, 1.0, complete=True))
    assert len(read_records(path)) == 3 + 18
    client = Client(wandb_server.url)
    client.upload([folder], timeout_s=30.0)
    client.close()
    rows = held(wandb_server, "edges").rows
    assert [row["_step"] for row in rows] == list(range(18))
    assert [len(row["text"]) for row in rows] == lengths


def _beginning(run_id: str) -> list[pb.Record]:
    return [
        log.header("0.31.0"),
        log.run(
            run_id=run_id,
            entity=None,
            project="digits",
            name=None,
            group=None,
            job_type=None,
            tags=(),
            notes=None,
            host=None,
            start_time=1795412700.0,
            config={},
        ),
    ]


def _row(step: int, size: int) -> bytes:
    (record,) = encode_rows([Row(step, 1795412700.5, 0.5, {"text": "x" * size})])
    return record
