"""Reading: attempts as one history, wherever the directory lies, whatever a stranger put there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wandbkeras
from wandbkeras.errors import DamagedError, NewerFormatError, NotFoundError, WandbkerasError
from wandbkeras.store import columns, document, parquet
from wandbkeras.store.directory import Store
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout
from wandbkeras.store.process import describe_process
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import RunInfo
from wandbkeras.store.seal import seal
from wandbkeras.store.writer import RunWriter

HISTOGRAM = {"_type": "histogram", "values": [1, 2], "bins": [0.0, 1.0, 2.0]}


def _attempt(
    layout: Layout, from_step: int, upto: int, *, close: bool = True, **process: Any
) -> None:
    writer = RunWriter(layout, {**describe_process(), "from_step": from_step, **process})
    for step in range(from_step, upto):
        values = {"loss": step / 2, "loss.a": step, "n": writer.attempt, "h": HISTOGRAM}
        writer.history(step, 1000.0 + step, float(step), values, complete=True)
    if close:
        writer.close(0, float(upto))
    else:
        writer.abandon()


def _snapshot(root: Path) -> dict[str, tuple[int, bytes]]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_a_later_attempt_takes_over_at_its_first_step(layout: Layout) -> None:
    """A run that went on from a checkpoint has each step once, that of the latest attempt."""
    _attempt(layout, 0, 10, close=False, host="elsewhere")
    _attempt(layout, 6, 8, close=False, host="elsewhere")
    _attempt(layout, 7, 12)
    run = StoredRun(layout.root)
    rows = list(run.rows())
    assert [row.step for row in rows] == list(range(12))
    assert [row.attempt for row in rows] == [0] * 6 + [1] + [2] * 5
    assert [row.values["n"] for row in rows] == [row.attempt for row in rows]
    assert run.row_count == 12
    assert run.histograms()["_attempt"].to_pylist() == [row.attempt for row in rows]
    assert run.state == "finished"


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("first", [1, 1.0, "one", None, [1]])
def test_rows_are_those_of_the_merged_history(layout: Layout, first: Any, strict: bool) -> None:
    """Whether it is read part by part, or has to be made of one type before."""
    writer = RunWriter(layout, describe_process(), segment_bytes=1)  # a segment a row
    for step in range(9):
        values = {"x": first if step < 3 else 1.5, "h": HISTOGRAM}
        writer.history(step, 1000.0 + step, float(step), values, complete=True)
    writer.abandon()
    for before in (3, 6):
        seal(Disk(), layout, 0, 0, before=before, compact=False)
    run = StoredRun(layout.root, strict=strict)
    assert len(run.attempts[0].manifest.parts) > 2
    expected = list(columns.read_rows(run.history(), run.histograms()))
    rows = list(run.rows())
    assert [repr(row) for row in rows] == [repr(row) for row in expected]
    assert list(run.steps) == [row.step for row in rows] == list(range(9))


def test_a_long_history_is_decoded_piece_by_piece(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads one row has decoded one row group."""
    monkeypatch.setattr(parquet, "GROUP_ROWS", 4)
    _attempt(layout, 0, 40)
    run = StoredRun(layout.root, strict=True)
    tables = run._tables_in_order()
    assert tables is not None
    assert len(next(tables)) == 4
    assert len(list(run.rows())) == 40


def test_an_attempt_without_rows_takes_nothing_away(layout: Layout) -> None:
    """A process that was started again and logged nothing hides no row of the one before it."""
    _attempt(layout, 0, 5)
    _attempt(layout, 3, 3, close=False)
    assert [row.step for row in StoredRun(layout.root).rows()] == list(range(5))


@pytest.mark.parametrize("close", [True, False])
def test_asking_for_some_metrics_gives_those_and_the_index(layout: Layout, close: bool) -> None:
    """A metric is asked for by its whole name, dots and all, sealed or not."""
    _attempt(layout, 0, 3, close=close)
    index = ["_step", "_timestamp", "_runtime", "_attempt"]
    run = StoredRun(layout.root)
    assert run.history(columns=["loss"]).column_names == [*index, "loss"]
    assert run.history(columns=["loss.a", "n"]).column_names == [*index, "loss.a", "n"]
    assert run.history(columns=["unknown"]).column_names == index
    assert run.history().column_names == [*index, "loss", "loss.a", "n"]


def test_rows_with_all_of_some_keys_are_had_while_the_run_is_alive(layout: Layout) -> None:
    """Over what is sealed and what is not, and only rows that have a value of each key."""
    writer = RunWriter(layout, {**describe_process(), "from_step": 0}, segment_bytes=100)
    for step in range(9):
        values: dict[str, Any] = {"loss": float(step), "acc": None if step == 3 else step / 8}
        with writer.lock:
            writer.history(step, 0.0, 0.0, values if step % 3 == 0 else {"loss": -1.0}, True)
    seal(Disk(), layout, 0, 0, before=5, compact=False)
    run = StoredRun(layout.root)
    assert run.state == "running"
    table = run.history(keys=["loss", "acc"])
    assert table.select(["_step", "loss", "acc"]).to_pydict() == {
        "_step": [0, 6],
        "loss": [0.0, 6.0],
        "acc": [0.0, 0.75],
    }
    assert run.history(["loss"], keys=["acc"]).num_rows == 2
    assert run.history(keys=["loss", "unknown"]).num_rows == 0
    assert run.history().num_rows == 9
    writer.abandon()


@pytest.mark.parametrize("close", [True, False])
def test_a_moved_run_reads_the_same_and_is_not_changed(
    layout: Layout, tmp_path: Path, close: bool
) -> None:
    """A copy elsewhere is the run; reading writes nothing."""
    _attempt(layout, 0, 5, close=close)
    before = StoredRun(layout.root)
    rows, state = list(before.rows()), before.folded.to_document()
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.move(layout.root, tmp_path / "elsewhere" / "renamed-k3j9x2ab")
    snapshot = _snapshot(Path(moved))
    run = Store(tmp_path / "elsewhere").run("k3j9x2ab")
    assert (list(run.rows()), run.folded.to_document()) == (rows, state)
    assert run.size == sum(len(data) for _, data in snapshot.values())
    assert _snapshot(Path(moved)) == snapshot


def test_a_run_opened_before_it_was_sealed_is_read_after(layout: Layout) -> None:
    """A reader whose files were replaced under it, by a writer that finishes, reads the rows."""
    writer = RunWriter(layout, {**describe_process(), "from_step": 0}, segment_bytes=100)
    for step in range(10):
        writer.history(step, 0.0, 0.0, {"loss": float(step), "h": HISTOGRAM}, complete=True)
    seal(Disk(), layout, 0, 0, before=3, compact=False)
    seal(Disk(), layout, 0, 0, before=5, compact=False)
    opened = StoredRun(layout.root)
    assert len(opened.attempts[0].manifest.parts) > 3  # history and histograms twice
    writer.close(0, 1.0)
    assert [row.step for row in opened.rows()] == list(range(10))
    assert opened.row_count == 10


def test_a_store_lists_its_runs_oldest_first(tmp_path: Path) -> None:
    """Other files and directories beside the runs are passed over."""
    for number, run_id in enumerate(("b", "c", "a")):
        root = tmp_path / f"run-2026112{number}_000000-{run_id}"
        root.mkdir()
        document.write(Disk(), root / "run.json", RunInfo(run_id, float(number)).to_document())
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "empty").mkdir()
    assert [run.info.id for run in Store(tmp_path).runs()] == ["b", "c", "a"]
    assert Store(tmp_path).run("c").info.created == 1.0
    with pytest.raises(NotFoundError, match="no run with id 'd'"):
        Store(tmp_path).run("d")


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    """The message names the path and what was expected there."""
    with pytest.raises(NotFoundError, match=r"nowhere: no such directory: expected a store"):
        Store(tmp_path / "nowhere")
    with pytest.raises(NotFoundError, match=r"not a run \(no run\.json\)"):
        StoredRun(tmp_path)


def test_a_run_that_has_not_recorded_anything_is_empty(layout: Layout) -> None:
    """A process that died right after making the directory left a run without rows."""
    run = StoredRun(layout.root)
    assert (list(run.rows()), run.row_count, run.summary, run.state) == ([], 0, {}, "crashed")
    layout.attempt(0).mkdir(parents=True)
    (layout.attempt(0) / "journal-000-000.wbk").write_bytes(b"\x89wbk")
    run = StoredRun(layout.root)
    assert (list(run.rows()), run.row_count, run.damage) == ([], 0, [])


@pytest.mark.parametrize("stream", ["history", "histograms"])
def test_a_damaged_part_is_an_error_that_names_it(layout: Layout, stream: str) -> None:
    """Strictly read, no flipped byte of a sealed part is read as data."""
    _attempt(layout, 0, 50)
    path = layout.part(stream, 0, 0, 0)
    good = path.read_bytes()
    expected = [(row.step, row.values) for row in StoredRun(layout.root).rows()]
    for position in range(0, len(good), 37):
        path.write_bytes(good[:position] + bytes([good[position] ^ 0x40]) + good[position + 1 :])
        try:
            rows = list(StoredRun(layout.root, strict=True).rows())
        except DamagedError as error:
            assert str(path) in str(error)
        else:
            assert [(row.step, row.values) for row in rows] == expected
    path.unlink()
    with pytest.raises(DamagedError, match=r"000-000-000\.parquet"):
        list(StoredRun(layout.root, strict=True).rows())


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"version": 2}, NewerFormatError),
        ({"format": "something-else"}, DamagedError),
        ({"id": None}, DamagedError),
        ({"id": "../../etc"}, DamagedError),
        ({"created": "yesterday"}, DamagedError),
        ({"tags": 5}, DamagedError),
        ({"tags": [1]}, DamagedError),
        ({"name": ["a"]}, DamagedError),
    ],
)
def test_a_run_of_another_kind_is_refused(
    layout: Layout, change: dict[str, Any], error: type[WandbkerasError]
) -> None:
    """A newer version, another format and members of a wrong type are one clear error."""
    members = {**document.read(layout.info), **change}
    document.write(Disk(), layout.info, members)
    with pytest.raises(error, match=r"run\.json"):
        StoredRun(layout.root)


def test_an_event_leads_nowhere_outside_of_the_run(layout: Layout) -> None:
    """The artifact manifest that an event names lies in the run, whatever the event says."""
    for name in ("../run.json", "/etc/passwd", "000-000-0000.json/../../x"):
        writer = RunWriter(layout, {**describe_process(), "from_step": 0})
        writer.event("artifact", {"manifest": name})
        writer.abandon()
        with pytest.raises(DamagedError, match="which is no artifact"):
            StoredRun(layout.root).artifacts  # noqa: B018
        shutil.rmtree(layout.attempts)


def test_a_missing_blob_is_said(layout: Layout, tmp_path: Path) -> None:
    """A blob that is not there, or is a link to somewhere else, is not read."""
    run = StoredRun(layout.root)
    with pytest.raises(DamagedError, match="the blob is missing"):
        run.blob("0" * 64)
    path = layout.blob("0" * 64)
    path.parent.mkdir(parents=True)
    path.symlink_to("/etc/hostname")
    with pytest.raises(DamagedError, match="the blob is missing"):
        run.blob("0" * 64)


def test_the_public_names_read_a_store(tmp_path: Path) -> None:
    """``wandbkeras.Store`` and ``StoredRun`` are the reader."""
    assert (wandbkeras.Store, wandbkeras.StoredRun) == (Store, StoredRun)


def test_all_of_a_run_that_is_alive_is_had(
    start: Callable[..., wandbkeras.Run], store: Path
) -> None:
    """What is sealed and what is not is one: rows, summary, config, tables and artifacts."""
    start(id="before").finish()
    sealed = start(id="alive", config={"lr": 0.1})
    (store / "weights").write_bytes(b"weights")
    sealed.log({"epoch": 0, "loss": 1.0})
    sealed.log({"epoch": 1, "loss": 0.5, "acc": 0.25, "t": wandbkeras.Table(["x"], [[1], [2]])})
    sealed.log_artifact(store / "weights", name="model")
    sealed.finish()
    alive = start(id="alive", resume="must", config={"batch": 32})
    alive.log({"epoch": 2, "loss": 0.25, "acc": 0.5})
    alive.log({"epoch": 3, "loss": 0.125, "acc": None})
    assert {found.info.id for found in Store(store).runs()} == {"before", "alive"}
    found = Store(store).run("alive")
    assert found.state == "running"
    frame = found.history(columns=["epoch", "loss"], keys=["acc"]).to_pandas()
    assert frame[["_step", "_attempt", "epoch", "loss"]].to_numpy().tolist() == [
        [1, 0, 1, 0.5],
        [2, 1, 2, 0.25],
    ]
    assert found.config == {"lr": 0.1, "batch": 32}
    assert (found.summary["epoch"], found.summary["acc"]) == (3, 0.5)
    assert found.table("t").to_pydict() == {"x": [1, 2]}
    (version,) = found.artifacts
    assert found.blob(version.files["weights"].sha256).read_bytes() == b"weights"
