"""What the released client recorded offline, imported and synced: the server holds what
`wandb sync` of the original brings there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from wandb.proto import wandb_internal_pb2 as pb

from tests.server.process import LoopbackServer
from tests.syncing import command, connect, content, held, printed, sync_one, tree, wandb_sync
from tests.wandb_file import BLOCK, read_records
from wandbkeras import StoredRun
from wandbkeras.errors import DamagedError, NotFoundError, RunExistsError
from wandbkeras.store.schema import Row
from wandbkeras.store.verify import verify_run
from wandbkeras.sync import transaction_log as log
from wandbkeras.sync.importing import Import, import_run
from wandbkeras.sync.log_blocks import BlockWriter, Losses
from wandbkeras.sync.log_blocks import read_records as read_tolerantly
from wandbkeras.sync.log_rows import encode_rows

# All kinds of records that a script of today leaves.
PROGRAM = """
import sys, wandb, numpy as np
settings = wandb.Settings(x_stats_sampling_interval=0.1, console="wrap")
run = wandb.init(project="digits", id="k3j9x2ab", name="first", group="g", job_type="train",
    tags=["a", "b"], notes="some notes", mode="offline", dir=".", settings=settings,
    config={"lr": 0.1, "n": {"x.y": [1]}, "password": "geheim"})
print("hello console, geheim")
run.define_metric("loss", summary="min,max")
run.define_metric("val/*", step_metric="epoch")
for i in range(5):
    run.log({"loss": 1 / (i + 1), "n": 2**60 + i, "inf": float("inf"), "val/acc": i / 10,
        "epoch": i, "a.b": 1, "5": 2, "nested": {"x": i, "y": {"z": None}},
        "text": "gr\\u00fc\\u00dfe", "h": wandb.Histogram(np_histogram=([1, 2, 3], [0, 1, 2, 3]))})
mask = {"p": {"mask_data": np.ones((4, 4), np.uint8), "class_labels": {1: "cat"}}}
run.log({"img": wandb.Image(np.zeros((4, 4, 3), np.uint8), caption="c", masks=mask),
    "imgs": [wandb.Image(np.full((4, 4), i, np.uint8)) for i in range(2)]})
run.log({"t": wandb.Table(columns=["a", "b"], data=[[1, "x"], [2, "y"]])})
run.log({"sparse": 1}, step=20)
run.config.update({"later": 5})
open("f.txt", "w").write("file content")
run.save("f.txt", policy="now")
artifact = wandb.Artifact("data", type="dataset", metadata={"k": 1}, description="d")
artifact.add_file("f.txt")
artifact.add_reference("http://127.0.0.1:1/x", checksum=False)
run.log_artifact(artifact, aliases=["best"])
pictures = wandb.Table(["picture"], [[wandb.Image(np.full((4, 4), 7, np.uint8))]])
base = wandb.Artifact("base", "dataset")
base.add(pictures, "pictures")
run.log_artifact(base)
view = wandb.Artifact("view", "dataset")
view.add(pictures, "seen")
view.add(wandb.JoinedTable(pictures, pictures, "picture"), "joined")
run.log_artifact(view)
run.summary["own"] = {"deep": 1}
run.alert("title", "text")
run.finish(exit_code=3)
"""


@dataclass(frozen=True)
class Both:
    """A run as `wandb sync` sends it, and as it arrives from an import."""

    server: LoopbackServer
    source: Path
    done: Import

    @property
    def theirs(self) -> dict[str, Any]:
        return content(held(self.server, "k3j9x2ab"))

    @property
    def ours(self) -> dict[str, Any]:
        return content(held(self.server, "k3j9x2ab", project="ours"))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """The run, both ways, on one server."""
    root = tmp_path_factory.mktemp("both")
    server = LoopbackServer(root / "server")
    with server.start(), pytest.MonkeyPatch.context() as monkeypatch:
        connect(server, root / "home", monkeypatch)
        monkeypatch.delenv("WANDB_CONSOLE")  # off, the client syncs none
        subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, check=True, capture_output=True)
        (source,) = (root / "wandb").glob("offline-run-*")
        before = tree(source)
        done = import_run(source, root / "runs")
        assert tree(source) == before
        result = sync_one(done.path, project="ours", level="full")
        assert result.error is None
        wandb_sync(shutil.copytree(source, root / source.name, symlinks=True))
        yield Both(server, source, done)
        assert server.violations() == []


@pytest.fixture
def client(both: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Both:
    """The same, and this process is a client of the server."""
    connect(both.server, tmp_path / "home", monkeypatch)
    return both


def test_nothing_is_left_out(both: Both) -> None:
    """All rows, artifacts and files are in the run, the rest is kept and counted."""
    done = both.done
    assert (done.rows, done.artifacts, done.left_out, done.torn) == (8, 4, (), 0)
    assert done.files == 7  # three images, a mask, a table, f.txt, requirements.txt
    assert set(done.kept) == {"environment", "stats", "output_raw", "telemetry", "alert", "config"}
    run = StoredRun(done.path, strict=True)
    assert (run.state, run.exit_code, run.info.name, run.row_count) == ("failed", 3, "first", 8)
    assert run.config == {"lr": 0.1, "n": {"x.y": [1]}, "password": "geheim", "later": 5}
    assert verify_run(done.path).damage == []


@pytest.mark.parametrize(
    "what",
    [
        "display_name", "notes", "group", "job_type", "host", "tags", "state", "exit_code",
        "config", "summary", "duration", "history", "events", "console", "files", "alerts",
        "logged", "used",
    ],
)  # fmt: skip
def test_what_arrives_is_what_wandb_sync_brings(what: str, both: Both) -> None:
    """Member by member: rows and their values, console, media, artifacts with every byte, …"""
    assert both.ours[what] == both.theirs[what]
    assert both.theirs[what] or what == "used"


def test_links_of_versions_lead_where_they_led(both: Both) -> None:
    """What a version takes from another one is a reference to it, by the server's own id."""
    runs = [held(both.server, "k3j9x2ab", project=name) for name in ("digits", "ours")]
    theirs, ours = (
        {
            (artifact.name, entry["digest"], entry["ref"].split("/", 3)[3])
            for artifact in run.logged_artifacts
            for path, entry in (artifact.manifest or {})["contents"].items()
            if entry.get("ref", "").startswith("wandb-artifact://")
        }
        for run in runs
    )
    assert {(name, path) for name, _, path in theirs} == {("view", "pictures.table.json")}
    assert ours == theirs


def test_what_wandb_itself_noted_arrives(both: Both) -> None:
    """What W&B shows of the machine and of the axes, and the class labels of masks."""
    runs = [held(both.server, "k3j9x2ab", project=name) for name in ("digits", "ours")]
    theirs, ours = (json.loads(run.files["wandb-metadata.json"]) for run in runs)
    assert ours == theirs
    theirs, ours = (run.config["_wandb"]["value"] for run in runs)
    assert ours["m"] == theirs["m"]
    assert ours["mask/class_labels"] == theirs["mask/class_labels"]


def test_a_second_sync_sends_nothing(client: Both) -> None:
    """Also when the server is asked: not the console either."""
    lines = client.ours["console"]
    result = sync_one(client.done.path, project="ours", check=True)
    assert (result.outcome, result.rows_sent, result.bytes_sent) == ("verified", 0, 0)
    assert client.ours["console"] == lines


def test_redacted_values_are_not_in_the_console(client: Both) -> None:
    """What `--redact` hides in the config is hidden in the lines that the console showed."""
    done = command("sync", client.done.path, "-p", "hidden", "--redact", "password")
    assert done.returncode == 0, done.stderr
    there = held(client.server, "k3j9x2ab", project="hidden")
    assert there.config_values["password"] == "(redacted)"
    assert "hello console, (redacted)" in there.console[0]
    assert "geheim" not in str(vars(there))


def test_staged_files_that_are_gone(client: Both, tmp_path: Path) -> None:
    """Their versions are left out, which is said and noted in the run; all the rest arrives."""
    source = shutil.copytree(client.source, tmp_path / client.source.name, symlinks=True)
    path = source / "run-k3j9x2ab.wandb"
    records = [pb.Record.FromString(data) for data in read_records(path)]
    path.unlink()
    with log.TransactionLog(path) as file:
        for record in records:
            for entry in record.artifact.manifest.contents:
                entry.local_path = entry.local_path and str(tmp_path / "gone")
            file.write(record)
    done = command("import", source, "-o", tmp_path / "runs", "--json")
    (found,) = printed(done)["runs"]
    assert (done.returncode, found["artifacts"], len(found["left_out"])) == (4, 0, 4)
    assert "is not there" in found["left_out"][0]
    assert any("links to a version that is not in the run" in text for text in found["left_out"])
    run = StoredRun(found["path"])
    assert run.folded.failures == 4
    assert "artifact_path" not in run.summary["t"]
    result = sync_one(run.path, project="without")
    assert result.error is None
    assert len(held(client.server, "k3j9x2ab", project="without").rows) == 8


def test_a_store_that_has_the_run(both: Both) -> None:
    """It stays as it is, whatever the directory is called there."""
    store = both.done.path.parent
    before = tree(store)
    with pytest.raises(RunExistsError, match="has a run 'k3j9x2ab' already"):
        import_run(both.source, store)
    assert tree(store) == before


def test_the_directory_wandb_is_all_of_its_runs(both: Both, tmp_path: Path) -> None:
    """One that can't be read holds up none; the link `latest-run` is no run of its own."""
    bad = shutil.copytree(both.source.parent, tmp_path / "wandb", symlinks=True)
    (bad / "offline-run-20261123_054500-broken").mkdir()
    (bad / "offline-run-20261123_054500-broken" / "run-broken.wandb").write_bytes(b"no log of W&B")
    done = command("import", tmp_path / "wandb", "-o", tmp_path / "runs")
    assert done.returncode == 4
    assert done.stdout.startswith("k3j9x2ab: imported to ")
    assert "kept as they were: " in done.stdout
    (line,) = done.stderr.splitlines()
    assert "begins with b'no log " in line


@pytest.mark.parametrize("name", ["nothing", "a file", "empty"])
def test_what_is_no_run_of_wandb(name: str, tmp_path: Path) -> None:
    """Nothing is made of it."""
    path = tmp_path / name
    if name == "a file":
        path.write_text("")
    elif name == "empty":
        path.mkdir()
    with pytest.raises(NotFoundError, match="expected the directory offline-run"):
        import_run(path, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def logged(folder: Path, rows: int, *, ended: bool = True) -> Path:
    """Write a log as the client does, with long rows; return its path."""
    directory = folder / "offline-run-20261123_054500-rows"
    directory.mkdir(parents=True)
    path = directory / "run-rows.wandb"
    run = log.run(
        run_id="rows", entity=None, project="digits", name=None, group=None, job_type=None,
        tags=(), notes=None, host=None, start_time=1795412700.0, config={"lr": 0.1},
    )  # fmt: skip
    with log.TransactionLog(path) as file:
        for record in (log.header("0.31.0"), run):
            file.write(record)
        for step in range(rows):
            values = {"loss": 1.0 / (step + 1), "text": "x" * 3000}
            (record,) = encode_rows([Row(step, 1795412700.5 + step, 0.5 + step, values)])
            file.write(record)
        if ended:
            file.write(log.exit(0, 9.0, complete=True))
    return path


def test_a_torn_tail_is_a_killed_process(tmp_path: Path) -> None:
    """The record that is not whole is counted in bytes; the run has crashed."""
    path = logged(tmp_path, 30)
    path.write_bytes(path.read_bytes()[:-40])
    done = import_run(path.parent, tmp_path / "runs")
    assert (done.rows, done.left_out) == (29, ()) or (done.rows, done.left_out) == (30, ())
    assert done.torn > 0
    run = StoredRun(done.path)
    assert (run.state, run.row_count) == ("crashed", done.rows)


def test_what_follows_damage_is_read(tmp_path: Path) -> None:
    """A changed byte costs the record that it is in, in the middle of a block as at its end."""
    path = logged(tmp_path, 30)
    data = bytearray(path.read_bytes())
    for offset in (10_000, 50_000):
        data[offset] ^= 1
    path.write_bytes(data)
    done = import_run(path.parent, tmp_path / "runs")
    assert done.rows == 28
    (line,) = done.left_out
    assert line.startswith("2 damaged places in the log, ")
    run = StoredRun(done.path)
    assert [row.step for row in run.rows()] == [s for s in range(30) if s not in (3, 16)]
    assert (run.state, run.config, run.folded.failures) == ("finished", {"lr": 0.1}, 1)


def test_a_run_whose_own_record_is_lost(tmp_path: Path) -> None:
    """The names of directory and file say which it is, and the rows are there."""
    path = logged(tmp_path, 3)
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    done = import_run(path.parent, tmp_path / "runs")
    assert (done.run_id, done.rows, done.path.name) == ("rows", 3, "run-20261123_054500-rows")
    assert len(done.left_out) == 2
    shutil.move(path.parent, tmp_path / "renamed")
    with pytest.raises(DamagedError, match="no record of it says which run it is"):
        import_run(tmp_path / "renamed", tmp_path / "others")
    assert not list((tmp_path / "others").iterdir())


@pytest.mark.parametrize("size", [0, 10, 20_000, 80_000])
def test_every_single_damaged_byte_costs_one_record(size: int, tmp_path: Path) -> None:
    """Whichever byte is changed, and however many blocks the record has."""
    path = tmp_path / "run.wandb"
    sizes = [100, size, 5 * BLOCK, 7]
    file = BlockWriter(path)
    for number, length in enumerate(sizes):
        file.write(bytes([number]) * length)
    file.close()
    sound = path.read_bytes()
    for offset in range(7, len(sound), 9973):
        path.write_bytes(sound[:offset] + bytes([sound[offset] ^ 0x10]) + sound[offset + 1 :])
        losses = Losses()
        found = [(data[:1], len(data)) for data in read_tolerantly(path, losses)]
        expected = [(bytes([n]) if length else b"", length) for n, length in enumerate(sizes)]
        missing = [record for record in expected if record not in found]
        assert [record for record in expected if record in found] == found
        assert (len(missing), losses.damaged or losses.torn > 0) in ((1, 1), (0, 0), (1, True))


@pytest.mark.parametrize("cut", range(0, 260, 13))
def test_every_cut_is_a_torn_tail(cut: int, tmp_path: Path) -> None:
    """Of a file that ends anywhere the records before are read, and nothing is called damage."""
    path = tmp_path / "run.wandb"
    file = BlockWriter(path)
    for number in range(4):
        file.write(bytes([number]) * 55)
    file.close()
    path.write_bytes(path.read_bytes()[:cut])
    losses = Losses()
    records = list(read_tolerantly(path, losses))
    whole = max(0, (cut - 7) // 62)
    assert (len(records), losses.damaged) == (min(4, whole), 0)
    assert losses.torn == (0 if cut >= 255 else cut if cut < 7 else cut - 7 - 62 * whole)
