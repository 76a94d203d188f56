"""What a run has beside its rows, from docs/format.md alone: config, files, tables and the like.

It stands on ``tests/format_reader.py``, and shares no line with the package either.
"""

from __future__ import annotations

from pathlib import Path

from tests import format_reader
from tests.format_reader import (
    TABLES,
    Record,
    is_a,
    owners,
    parse_document,
    read_manifest,
    read_parquet,
    read_parts,
    read_segments,
)

LINE = ("line", "stream", "_timestamp", "text")


def read_run(root: Path) -> Record:
    """Return all that a run directory says."""
    info, rows = format_reader.read_run(root)
    said = merged_state([read_state(root, *owner) for owner in owners(root)])
    found = [(root / "artifacts" / name).read_bytes() for name in said["artifacts"]]
    said["artifacts"] = [parse_document(data, "artifact") for data in found]
    tables = [value for row in rows for value in row.values() if is_a(value, *TABLES)]
    tables += [t for version in said["artifacts"] for t in version.get("tables", {}).values()]
    contents = {table["path"]: read_parquet(root, table["path"], table) for table in tables}
    console = [line for owner in owners(root) for line in read_console(root, *owner)]
    return {**said, "info": info, "rows": rows, "tables": contents, "console": console}


def read_state(root: Path, attempt: int, number: int) -> Record:
    """Return what a writer says of the run, but for its summary (Manifests, State)."""
    manifest = read_manifest(root, attempt, number)
    state: Record = {"config": {}, "files": {}, "process": {}, "resumed": False}
    state |= {"artifacts": [], "dropped_artifacts": [], **manifest["state"]}
    folder, name = root / f"attempts/{attempt:03d}", f"journal-{number:03d}"
    for _, records in read_segments(folder, name, manifest["segments"]):
        for kind, *elements in records:
            if kind == "event":
                add_up(state, elements[0], elements[2])
    return state


def add_up(state: Record, kind: str, body: Record) -> None:
    """Add an event to what a writer says, but for its summary (State)."""
    if kind == "config":
        state["config"].update(body.get("update", {}))
        for key in body.get("remove", ()):
            state["config"].pop(key, None)
    elif kind in ("attempt", "rollback"):
        state["process"].update({key: body[key] for key in body if key != "resume"})
        state.update({**body["resume"], "resumed": True} if body.get("resume") else {})
    elif kind == "file":
        state["files"][body["path"]] = {key: body[key] for key in ("sha256", "md5", "size")}
    elif kind in ("artifact", "artifact_dropped"):
        state["artifacts" if kind == "artifact" else "dropped_artifacts"].append(body["manifest"])


def read_console(root: Path, attempt: int, number: int) -> list[list[object]]:
    """Return attempt, writer and line of what a process printed, in order (Console)."""
    sealed = read_parts(root, read_manifest(root, attempt, number)["parts"], "console")
    lines = {row["line"]: [row[name] for name in LINE] for row in sealed}
    folder, name = root / f"attempts/{attempt:03d}", f"console-{number:03d}"
    for _, records in read_segments(folder, name) if not sealed else ():
        lines |= {line[0]: line for _, printed in records for line in printed}
    return [[attempt, number, *lines[line]] for line in sorted(lines)]


def merged_state(states: list[Record]) -> Record:
    """Return what all writers say (Attempts, State)."""
    config: Record = {}
    files: Record = {}
    for state in states:
        config = {**({} if state["resumed"] else config), **state["config"]}
        files |= state["files"]
    dropped = [name for state in states for name in state["dropped_artifacts"]]
    kept = [name for state in states for name in state["artifacts"] if name not in dropped]
    return {"config": config, "files": files, "artifacts": kept}
