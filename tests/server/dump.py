"""All that the server holds of a run, as one flat mapping from a place to what is there.

It is taken from the tables as they are, so nothing that was received can be forgotten.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.server import snapshot
from tests.server.state import OBJECTS

# Columns whose text is JSON.
_JSON = {"config", "summary", "tags", "metadata", "wanted_aliases"}
# Where the server keeps what it received, and how its tables are linked.
_OWN = {
    *("pk", "run", "project", "artifact", "collection", "base", "upload_id"),
    *("object", "storage_path"),  # the content is a value of its own
}


def dump(directory: Path, entity: str, project: str, run_id: str) -> dict[str, Any]:
    """Return place to value: ``run/host``, ``history/0/loss``, ``artifact/model:v0/digest``.

    Lists and objects have a place for each member; the bytes of a file are a value.
    """
    with snapshot.opened(directory) as db:
        row = db.execute(
            "select r.* from runs r join projects p on p.pk = r.project"
            " where p.entity = ? and p.name = ? and r.name = ?",
            (entity, project, run_id),
        ).fetchone()
        return dict(_run(db, directory, row))


def _run(db: sqlite3.Connection, directory: Path, row: sqlite3.Row) -> Iterator[tuple[str, Any]]:
    pk = row["pk"]
    yield from _columns("run", row)
    lines = "select * from lines where run = ? order by file, number"
    for line in db.execute(lines, (pk,)):
        yield from _flat(f"{line['file']}/{line['number']}", _parsed(line["text"]))
    for file in db.execute("select * from run_files where run = ?", (pk,)):
        yield from _columns(f"file/{file['name']}", file)
        yield from _bytes(f"file/{file['name']}", directory, file["object"])
    for number, alert in enumerate(db.execute("select * from alerts where run = ?", (pk,))):
        yield from _columns(f"alert/{number}", alert)
    links = "select * from run_artifacts where run = ? order by rowid"
    for link in db.execute(links, (pk,)).fetchall():
        yield from _artifact(db, directory, link)


def _artifact(
    db: sqlite3.Connection, directory: Path, link: sqlite3.Row
) -> Iterator[tuple[str, Any]]:
    pk = link["artifact"]
    version = db.execute("select * from artifacts where pk = ?", (pk,)).fetchone()
    name = db.execute(
        "select c.name, c.description, c.created_at, t.name as type"
        " from collections c join artifact_types t on t.pk = c.type"
        " where c.pk = ?",
        (version["collection"],),
    ).fetchone()
    place = f"artifact/{name['name']}:v{version['version_index']}"
    yield from _columns(f"{place}/is {link['direction']}", link)
    yield from _columns(f"{place}/collection", name)
    yield from _columns(place, version)
    for alias in db.execute("select alias from aliases where artifact = ?", (pk,)):
        yield f"{place}/alias/{alias['alias']}", True
    for (client_id,) in db.execute("select client_id from client_ids where artifact = ?", (pk,)):
        yield f"{place}/client id", client_id
    for manifest in db.execute("select * from manifests where artifact = ?", (pk,)).fetchall():
        yield from _columns(f"{place}/manifest {manifest['type']}", manifest)
        if manifest["object"] is not None:
            text = (directory / OBJECTS / manifest["object"]).read_text()
            yield from _flat(f"{place}/manifest {manifest['type']}", json.loads(text))
    for file in db.execute("select * from artifact_files where artifact = ?", (pk,)):
        yield from _columns(f"{place}/file/{file['name']}", file)
        yield from _bytes(f"{place}/file/{file['name']}", directory, file["object"])


def _columns(place: str, row: sqlite3.Row) -> Iterator[tuple[str, Any]]:
    for name in row.keys():  # noqa: SIM118  of a row, `in` looks at the values
        if name in _JSON and row[name] is not None:
            yield from _flat(f"{place}/{name}", json.loads(row[name]))
        elif name not in _OWN:
            yield f"{place}/{name}", row[name]


def _bytes(place: str, directory: Path, sha256: str | None) -> Iterator[tuple[str, Any]]:
    """Yield the content; of a JSON or YAML file each member of it."""
    if sha256 is None:
        return
    content = (directory / OBJECTS / sha256).read_bytes()
    if place.endswith(".json"):
        yield from _flat(f"{place}/content", json.loads(content))
    elif place.endswith(".yaml"):
        yield from _flat(f"{place}/content", yaml.safe_load(content))
    else:
        yield f"{place}/content", content


def _flat(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    if place.endswith("/_wandb/value/m"):
        value = _by_name(value)
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(f"{place}/{key}", item)
    elif isinstance(value, list) and value:
        for number, item in enumerate(value):
            yield from _flat(f"{place}/{number}", item)
    else:
        yield place, value


def _by_name(metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """Return definitions of metrics, which come in any order and number each other, by names."""
    names = [metric.get("1", metric.get("2")) for metric in metrics]
    return {
        name: {**metric, "5": names[metric["5"] - 1]} if "5" in metric else metric
        for name, metric in zip(names, metrics, strict=True)
    }


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return line
