"""Tables and images arrive in W&B as its own client would have sent them."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import wandb
from PIL import Image as Pillow

import wandbkeras
from tests.server.process import LoopbackServer
from tests.server.snapshot import ArtifactSnapshot, RunSnapshot
from tests.syncing import ENTITY, PROJECT, connect, held, sync_one
from wandbkeras import Run, StoredRun
from wandbkeras.store.repair import repair_run
from wandbkeras.sync.artifacts import table_artifact_name
from wandbkeras.sync.engine import Result

Start = Callable[..., Run]
# What differs with every encoder of PNG and every clock.
OF_THE_BYTES = {"sha256", "size", "digest", "_timestamp", "_runtime"}
LABELS = {0: "road", 1: "car", 2: "sky"}


def program(module: ModuleType, run: Any) -> None:
    """Log images, masks, tables, classes and rows that link, by wandb's API, which is ours too."""
    random = np.random.default_rng(0)

    def image(**more: Any) -> Any:
        return module.Image(random.integers(0, 256, (6, 5, 3), np.uint8), **more)

    grey = random.integers(0, 256, (4, 5), np.uint8)
    mask = random.integers(0, 3, (6, 5))
    classes = module.Classes([{"id": i, "name": name} for i, name in LABELS.items()])
    masks = {
        "predictions": {"mask_data": mask, "class_labels": LABELS},
        "ground truth": {"mask_data": mask[::-1].copy(), "class_labels": LABELS},
    }
    run.log({"one": module.Image(grey, caption="hé")})
    run.log({"examples": [image(caption="a"), image(caption="b")], "plain": [image()], "loss": 0.5})
    run.log({"seg/masks": [image(masks=masks), image(masks=masks)]})
    run.log({"masked": image(masks=masks, classes=classes)})
    table = module.Table(columns=["i", "f", "s", "b", "list", "image", "n", "embedding", "array"])
    for i in range(3):
        cell = image(caption=f"c{i}", masks=masks, classes=classes)
        n = None if i == 1 else i
        table.add_data(i, i / 2, f"é{i}", i > 0, [i, 1], cell, n, np.ones(4, np.float32), np.eye(2))
    run.log({"val/table": table})
    validation = module.Table(columns=["input"], data=[[image()] for _ in range(4)])
    artifact = module.Artifact("wb_validation_data", "validation_dataset")
    artifact.add(validation, "validation_data")
    run.use_artifact(artifact)
    predictions = module.Table(columns=[], data=[])
    predictions.add_column("val_row", validation.get_index())
    predictions.add_column("score", random.random((4, 3)))
    run.log({"validation_predictions": predictions})
    run.log({"numbers": module.Table(columns=["x", "y"], data=[[0.5, "a"], [None, None]])})


@dataclass(frozen=True)
class Side:
    """A run as the server holds it, and its tables as wandb's client opens them again."""

    run: RunSnapshot
    opened: dict[str, list[list[Any]]]

    @property
    def files(self) -> dict[str, bytes]:
        """The files of the run, but for the client's own."""
        return {n: data for n, data in self.run.files.items() if n.startswith("media/")}

    @property
    def artifacts(self) -> dict[str, ArtifactSnapshot]:
        """The versions by their names, without the run's id and what is computed of it."""
        found = (*self.run.logged_artifacts, *self.run.used_artifacts)
        return {a.name.removeprefix(f"run-{self.run.id}-").partition("-")[0]: a for a in found}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Side, Side]:
    """The program's run as wandb sent it online, and as ours arrived."""
    root = tmp_path_factory.mktemp("both")
    server = LoopbackServer(root / "server")
    with server.start(), pytest.MonkeyPatch.context() as patch:
        connect(server, root / "home", patch)
        patch.chdir(root)
        quiet = wandb.Settings(console="off", x_disable_meta=True, x_disable_stats=True)
        with wandb.init(project=PROJECT, id="online", settings=quiet) as run:
            program(wandb, run)
        with wandbkeras.init(project=PROJECT, id="ours", dir=root / "runs") as ours:
            program(wandbkeras, ours)
        result = sync_one(ours.dir)
        assert (result.error, result.outcome) == (None, "verified")
        sides = tuple(Side(held(server, name), opened(name)) for name in ("online", "ours"))
    assert server.violations() == []
    return sides  # type: ignore[return-value]


def opened(run_id: str) -> dict[str, list[list[Any]]]:
    """Open the tables that a run has logged, by wandb's client."""
    return {
        key: [[cell(value) for value in row] for row in artifact.get(key).data]
        for key in ("val/table", "validation_predictions", "numbers")
        for artifact in [
            wandb.Api().artifact(f"{ENTITY}/{PROJECT}/{table_artifact_name(run_id, key)}:v0")
        ]
    }


def cell(value: Any) -> Any:
    """What is in a cell: of an image all of it, of a link the row that it leads to."""
    if isinstance(value, wandb.Image):
        masks = {k: pixels(Path(m._path).read_bytes()) for k, m in (value._masks or {}).items()}
        classes = value._classes._class_set if value._classes else None
        return pixels(Path(value._path).read_bytes()), value._caption, masks, classes
    if hasattr(value, "get_row"):
        return int(value), {key: cell(other) for key, other in value.get_row().items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


def pixels(data: bytes) -> Any:
    image = Pillow.open(io.BytesIO(data))
    return image.mode, np.array(image).tolist()


def meaning(value: Any, files: Mapping[str, bytes]) -> Any:
    """Return a value in which the name of each file is what is in the file.

    Clients give ids of their own, encode PNG in their own way, and name files by what came of it.
    """
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in OF_THE_BYTES}
        return {key: meaning(item, files) for key, item in kept.items()}
    if isinstance(value, list):
        return [meaning(item, files) for item in value]
    if not isinstance(value, str):
        return value
    if value in files:
        return re.sub(r"[0-9a-f]{20,32}", "HASH", value), content(value, files)
    value = re.sub(r"[a-z0-9]{128}", "CLIENT ID", value)
    return re.sub(r"media/tables/t_[0-9a-z]{8}\.", "media/tables/RANDOM.", value)


def content(name: str, files: Mapping[str, bytes]) -> Any:
    if name.endswith(".png"):
        return pixels(files[name])
    return meaning(json.loads(files[name]), files) if name.endswith(".json") else files[name]


def test_rows_summary_and_files_are_those_of_an_online_run(both: tuple[Side, Side]) -> None:
    """Every value, every file of the run and every pixel."""
    online, ours = both
    for expected, found in zip(online.run.rows, ours.run.rows, strict=True):
        assert meaning(found, ours.files) == meaning(expected, online.files)
    expected, found = ({**side.run.summary, "_wandb": None} for side in both)
    assert meaning(found, ours.files) == meaning(expected, online.files)
    assert len(ours.files) == len(online.files)


def test_class_labels_of_masks_are_in_the_config(both: tuple[Side, Side]) -> None:
    """By the key and the mask, where W&B's pages look for them."""
    online, ours = (s.run.config["_wandb"]["value"]["mask/class_labels"] for s in both)
    assert ours == online
    assert ours["masked_wandb_delimeter_ground truth"]["value"]["1"] == "car"


def test_artifacts_are_those_of_an_online_run(both: tuple[Side, Side]) -> None:
    """Names, types, aliases, every entry, every cell; made by the run, or taken in by it."""
    online, ours = both
    assert online.artifacts.keys() == ours.artifacts.keys()
    assert [a.name for a in ours.run.used_artifacts] == ["wb_validation_data"]
    for name, expected in online.artifacts.items():
        found = ours.artifacts[name]
        assert (found.type, found.state, len(entries(found))) == (
            expected.type,
            "COMMITTED",
            len(entries(expected)),
        )
        tables = [path for path in expected.files if path.endswith(".table.json")]
        assert len(tables) == 1
        assert content(tables[0], found.files) == content(tables[0], expected.files)


def entries(artifact: ArtifactSnapshot) -> Mapping[str, Any]:
    assert artifact.manifest is not None
    contents: Mapping[str, Any] = artifact.manifest["contents"]
    return contents


def test_a_table_without_images_has_the_very_bytes_of_an_online_one(
    both: tuple[Side, Side],
) -> None:
    """So W&B knows it for the same version, whoever sent it first."""
    online, ours = both
    assert ours.artifacts["numbers"].digest == online.artifacts["numbers"].digest


def test_rows_link_to_the_table_that_the_server_knows(both: tuple[Side, Side]) -> None:
    """The reference names the other version by the server's own id."""
    artifacts = both[1].artifacts
    (link,) = [e for e in entries(artifacts["validation_predictions"]).values() if "ref" in e]
    table = entries(artifacts["wb_validation_data"])["validation_data.table.json"]
    assert re.fullmatch(r"wandb-artifact://[0-9a-f]+/validation_data\.table\.json", link["ref"])
    assert link["digest"] == table["digest"]


def test_the_real_client_opens_the_tables_again(both: tuple[Side, Side]) -> None:
    """Cells, images, masks, classes, arrays and linked rows, from ours as from its own."""
    online, ours = both
    assert ours.opened == online.opened
    assert ours.opened["val/table"][0][8] == [[1.0, 0.0], [0.0, 1.0]]
    (_, caption, masks, classes) = ours.opened["val/table"][2][5]
    assert (caption, list(masks), len(classes)) == ("c2", ["ground truth", "predictions"], 3)
    number, row = ours.opened["validation_predictions"][3][0]
    assert (number, row["input"][0][0]) == (3, "RGB")


def synced(
    run: Run, server: LoopbackServer, home: Path, patch: pytest.MonkeyPatch, **options: Any
) -> Result:
    """Finish a run and sync it."""
    run.finish()
    connect(server, home, patch)
    return sync_one(run.dir, **options)


def test_nothing_is_sent_twice(
    start: Start, tmp_path: Path, wandb_server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked again without its receipt, a run with tables and images has nothing to send."""
    run = start(project=PROJECT)
    for value in (1, 1, 2):
        image = wandbkeras.Image(np.full((2, 2), value, np.uint8))
        run.log({"t": wandbkeras.Table(["n", "i"], [[value, image]]), "i": image})
    first = synced(run, wandb_server, tmp_path / "home", monkeypatch)
    # The same table again is no new version, for the server and so for us.
    assert (first.error, first.artifacts_sent, first.files_sent) == (None, 2, 6)
    again = sync_one(run.dir, state_directory=tmp_path / "receipts")
    assert (again.outcome, again.artifacts_sent, again.files_sent) == ("verified", 0, 0)
    paths = [row["t"]["artifact_path"] for row in held(wandb_server, run.id).rows]
    assert paths[0] == paths[1] != paths[2]


def test_a_run_that_has_grown_sends_what_is_new(
    start: Start, tmp_path: Path, wandb_server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later tables, in order; also such that link to one that is there already."""
    run = start(project=PROJECT, id="k3j9x2ab")
    validation = wandbkeras.Table(["x"], [[1], [2]])
    artifact = wandbkeras.Artifact("validation", "dataset")
    artifact.add(validation, "data")
    run.log_artifact(artifact)
    run.log({"p": wandbkeras.Table({"row": wandbkeras.RowColumn(validation)}, [[0]])})
    first = synced(run, wandb_server, tmp_path / "home", monkeypatch)
    assert (first.error, first.artifacts_sent) == (None, 2)
    later = start(project=PROJECT, id="k3j9x2ab", resume="must")
    (version,) = later.artifact_versions("validation").values()
    for number in (1, 0):
        link = wandbkeras.RowColumn(version.tables["data"])
        later.log({"p": wandbkeras.Table({"row": link}, [[number]])})
    later.finish()
    second = sync_one(later.dir)
    assert (second.error, second.rows_sent, second.artifacts_sent) == (None, 2, 2)
    found = held(wandb_server, "k3j9x2ab").logged_artifacts
    tables = [json.loads(a.files["p.table.json"])["data"] for a in found if a.type == "run_table"]
    assert tables == [[[0]], [[1]], [[0]]]


def test_a_table_that_the_server_lacks_is_not_verified(
    start: Start, tmp_path: Path, wandb_server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused files and artifacts are named; once they are taken, the next sync completes it."""
    run = start(project=PROJECT)
    run.log({"t": wandbkeras.Table(["n"], [[1]]), "i": wandbkeras.Image(np.zeros((2, 2)))})
    wandb_server.expect_violations()
    wandb_server.add_fault("status", status=403, operation="CreateArtifact", times=100)
    refused = synced(run, wandb_server, tmp_path / "home", monkeypatch, timeout_s=6.0)
    assert refused.outcome == "failed"
    assert "artifact run-" in str(refused.error)
    wandb_server.clear_faults()
    assert sync_one(run.dir).outcome == "verified"


def test_a_damaged_table_holds_up_the_run(
    start: Start, tmp_path: Path, wandb_server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is sent before somebody has repaired it; then all of the rest is."""
    run = start(project=PROJECT)
    run.log({"t": wandbkeras.Table(["n"], [[1]]), "loss": 0.5})
    run.finish()
    (table,) = StoredRun(run.dir or "").tables()
    table.path.write_bytes(b"x" + table.path.read_bytes()[1:])
    result = synced(run, wandb_server, tmp_path / "home", monkeypatch)
    assert "wandbkeras repair" in str(result.error)
    assert wandb_server.run_ids(ENTITY, PROJECT) == []
    repair_run(Path(run.dir or ""))
    assert sync_one(run.dir).outcome == "verified"
    (row,) = held(wandb_server, run.id).rows
    assert (row["loss"], "t" in row) == (0.5, False)
