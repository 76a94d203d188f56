"""What W&B holds of a table and of images, rendered without a server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wandb.sdk.artifacts._internal_artifact import sanitize_artifact_name

from wandbkeras import ClassColumn, Image, RowColumn, Run, StoredRun, Table
from wandbkeras.errors import DamagedError
from wandbkeras.store.tables import StoredTable
from wandbkeras.sync.artifacts import Artifact, table_artifact_name
from wandbkeras.sync.content import Content
from wandbkeras.sync.images import render_images, write_images
from wandbkeras.sync.scratch import Scratch
from wandbkeras.sync.tables import RenderedTable, render_table

Start = Callable[..., Run]
PIXELS = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)


def logged(start: Start, **values: Any) -> list[StoredTable]:
    run = start(id="k3j9x2ab")
    run.log(values)
    run.finish()
    return StoredRun(run.dir or "", strict=True).tables()


def rows(rendered: RenderedTable) -> list[list[Any]]:
    """The cells of all parts."""
    return [row for part in rendered.parts for row in json.loads(part.path.read_text())["data"]]


@pytest.fixture
def scratch() -> Any:
    with Scratch() as made:
        yield made


@pytest.mark.parametrize("part_rows", [1, 3, 7, 1000, 1001, 2500, 10_000])
def test_no_row_is_cut_off(start: Start, scratch: Scratch, part_rows: int) -> None:
    """More rows than W&B takes of a table become further tables; the run's file has the first."""
    count = min(2_500, part_rows * 9 + 1)
    image = Image(PIXELS)
    data = [[n, [n, 0.5], image if n == 1 else None] for n in range(count)]
    (stored,) = logged(start, t=Table(["n", "list", "image"], data))
    rendered = render_table(stored, scratch, lambda path: False, file_rows=10, part_rows=part_rows)
    sizes = [json.loads(part.path.read_text())["nrows"] for part in rendered.parts]
    assert sum(sizes) == rendered.rows == count
    assert all(size == part_rows for size in sizes[:-1])
    assert [row[0] for row in rows(rendered)] == list(range(count))
    file = json.loads(rendered.file.path.read_text())
    assert [row[0] for row in file["data"]] == list(range(min(10, count)))
    assert file["data"][1][2] == "Image"
    names = [name for name in rendered.entries("t") if name.endswith(".table.json")]
    assert names == ["t.table.json", *(f"t.part{n}.table.json" for n in range(2, len(sizes) + 1))]


def test_large_arrays_are_files_beside_each_part(start: Start, scratch: Scratch) -> None:
    """As the client's, written in pieces: numpy reads them back, the same bytes as its own."""
    arrays = np.arange(5 * 200, dtype=np.float32).reshape(5, 200)
    (stored,) = logged(start, t=Table(["a"], [[row] for row in arrays]))
    rendered = render_table(stored, scratch, lambda path: False, part_rows=3)
    assert rows(rendered) == [[None]] * 5
    found = [
        np.load(file.path)["a"]  # type: ignore[attr-defined]
        for name, file in rendered.media.items()
        if name.endswith(".npz")
    ]
    assert np.concatenate(found).tolist() == arrays.tolist()
    np.savez_compressed(scratch.new_path().with_suffix(".npz"), a=arrays[:3])
    (own,) = scratch.new_path().parent.glob("*.npz")
    digests = {file.sha256 for file in rendered.media.values()}
    assert hashlib.sha256(own.read_bytes()).hexdigest() in digests


def test_a_file_is_what_its_digests_say(start: Start, scratch: Scratch) -> None:
    """SHA-256, MD5 and size are those of the bytes that are uploaded."""
    (stored,) = logged(start, t=Table(["a", "é"], [[1, "é"], [None, 2]]))
    rendered = render_table(stored, scratch, lambda path: False)
    for file in (rendered.file, *rendered.parts):
        data = file.path.read_bytes()
        assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert file.md5 == hashlib.md5(data).hexdigest()


def test_nan_is_what_the_client_makes_of_it(start: Start, scratch: Scratch) -> None:
    """Null in the artifact, where W&B's pages read it; as it was in the file of the run."""
    nan = float("nan")
    (stored,) = logged(start, t=Table(["f", "j", "a"], [[nan, [1, nan, "x"], [nan, 1.0]]]))
    rendered = render_table(stored, scratch, lambda path: False)
    assert rows(rendered) == [[None, [1, None, "x"], [None, 1.0]]]
    assert rendered.file.path.read_text().count("NaN") == 3


def test_columns_of_classes_have_files_of_their_own(start: Start, scratch: Scratch) -> None:
    """The client has one name for all; a second set of classes would take the first one's place."""
    kinds = {"a": ClassColumn(["x"]), "b": ClassColumn(["y"])}
    (stored,) = logged(start, t=Table(kinds, [[0, 0]]))
    rendered = render_table(stored, scratch, lambda path: False)
    names = {path: file.data for path, file in rendered.media.items()}  # type: ignore[attr-defined]
    assert [json.loads(data)["class_set"][0]["name"] for data in names.values()] == ["x", "y"]
    assert next(iter(names)) == "media/cls.classes.json"


def test_a_link_to_a_table_that_is_gone_is_a_number(start: Start, scratch: Scratch) -> None:
    """Of a version that the run no longer keeps, W&B gets the numbers of the rows."""
    run = start()
    table = Table(["x"], [[1]])
    run.log({"x": table})
    run.log({"t": Table({"row": RowColumn(table)}, [[0]])})
    run.finish()
    stored = StoredRun(run.dir or "").tables()[1]
    for is_held, kind in ((True, "foreignIndex"), (False, "number")):
        rendered = render_table(stored, scratch, lambda path, is_held=is_held: is_held)
        text = rendered.parts[0].path.read_text()
        types = json.loads(text)["column_types"]["params"]["type_map"]
        assert (types["row"]["wb_type"], len(rendered.links)) == (kind, int(is_held))


def test_all_images_of_a_step_are_named(start: Start) -> None:
    """The client drops what is beyond 108, and all captions if the first image has none."""
    images = [
        Image(np.full((1, 2), n, np.uint8), caption=f"{n}" if n else None) for n in range(120)
    ]
    (stored,) = logged(start, examples=images)
    rendered = render_images(stored)
    assert (rendered.value["count"], len(rendered.files)) == (120, 120)
    assert rendered.value["captions"][:3] == [None, "1", "2"]
    assert (rendered.value["width"], rendered.value["height"]) == (2, 1)


def test_images_without_captions_have_none(start: Start) -> None:
    """As the client leaves the member out."""
    (stored,) = logged(start, examples=[Image(PIXELS)])
    assert "captions" not in render_images(stored).value
    assert "all_masks" not in render_images(stored).value


def test_labels_above_255_arrive(start: Start, tmp_path: Path) -> None:
    """A mask of 16 bits is uploaded as it is."""
    labels = np.array([[0, 1000]])
    (stored,) = logged(start, m=Image(np.zeros((1, 2)), masks={"m": labels}))
    rendered = render_images(stored)
    path = rendered.value["masks"]["m"]["path"]
    file: Any = rendered.files[path]
    write_images(stored, {(file.column, file.row): [tmp_path / "m.png", tmp_path / "again.png"]})
    from PIL import Image as Pillow

    assert np.array(Pillow.open(tmp_path / "m.png")).tolist() == labels.tolist()
    assert hashlib.md5((tmp_path / "again.png").read_bytes()).hexdigest() == file.md5


@pytest.mark.parametrize("name", ["photo.JPG", "no ending", "../x.png", "a/b.png", ".png"])
def test_a_files_name_stays_in_its_place(start: Start, tmp_path: Path, name: str) -> None:
    """It is kept in an artifact, as in wandb, unless it could lead elsewhere."""
    image = Image(PIXELS)
    image.content, image.file_name, image.pixels = image.encode().data, name, None
    run = start()
    run.log({"t": Table(["i"], [[image]])})
    run.finish()
    (artifact,) = Content(StoredRun(run.dir or "")).artifacts
    (path,) = (path for path in artifact.made if path.startswith("media/images/"))
    kept = "/" not in name
    assert path.endswith(f"/{name}") == kept
    assert ".." not in path


def test_keys_of_tables_name_artifacts_as_the_clients_do() -> None:
    """What W&B refuses in a name goes; a checksum tells keys apart; no name is too long."""
    for key in ("t", "a/b", "a b", "é", "a.b-c_d"):
        assert table_artifact_name("k3j9x2ab", key) == sanitize_artifact_name(f"run-k3j9x2ab-{key}")
    long = {table_artifact_name("k3j9x2ab", "x" * 200 + end) for end in ("a", "b")}
    assert {len(name) for name in long} == {128}
    assert len(long) == 2


def test_versions_are_sent_after_those_that_they_link_to(start: Start) -> None:
    """And after those before them of the same name; all others at once."""
    run = start()
    first, second = Table(["x"], [[1]]), Table(["x"], [[2]])
    run.log({"a": Table(["n"], [[0]]), "base": first})
    run.log({"a": Table({"row": RowColumn(first)}, [[0]]), "base": second})
    run.log({"a": Table(["n"], [[2]]), "b": Table({"row": RowColumn(second)}, [[0]])})
    run.finish()
    content = Content(StoredRun(run.dir or ""))
    waves = content.versions.waves(content.artifacts)

    def names(wave: list[Artifact]) -> list[str]:
        return [artifact.version.name.removeprefix(f"run-{run.id}-") for artifact in wave]

    assert [names(wave) for wave in waves] == [["a", "base", "base"], ["a", "a", "b"]]
    linking = waves[1]
    assert [names(wave) for wave in content.versions.waves(linking)] == [["a", "a", "b"]]


def test_tables_of_one_artifact_may_link_to_one_another(start: Start) -> None:
    """No version can refer to itself: what is linked to lies in it a second time."""
    run = start()
    import wandbkeras

    first = Table(["x"], [[1]])
    one = wandbkeras.Artifact("one", "dataset")
    one.add(first, "first")
    run.log_artifact(one)
    two = wandbkeras.Artifact("two", "dataset")
    two.add(first, "first")
    two.add(Table({"row": RowColumn(first)}, [[0]]), "links")
    run.log_artifact(two)
    run.finish()
    versions = Content(StoredRun(run.dir or "")).artifacts
    assert [dict(artifact.links) for artifact in versions] == [{}, {}]
    (copy,) = (path for path in versions[1].made if path.startswith("media/tables/"))
    assert versions[1].files[copy] == versions[1].files["first.table.json"]


def test_an_image_that_is_none_is_refused(start: Start) -> None:
    """A stranger's table may hold anything where an image is due."""
    (stored,) = logged(start, t=Table(["a"], [[1]]))
    with pytest.raises(DamagedError, match="not the images that its row names"):
        render_images(stored)
