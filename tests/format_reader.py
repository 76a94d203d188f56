"""A second reader of run directories, written from docs/format.md alone.

It shares no line with the package, so where the two agree, it is the document that makes them.
"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

MAGIC = b"\x89wbk\r\n\x1a\n"
INDEX = ("_step", "_timestamp", "_runtime", "_attempt")
STATS = ("count", "nan", "posinf", "neginf", "zero", "min", "max", "mean", "std")
AGGREGATE = {"first": None, "last": None, "min": float("inf"), "max": -float("inf")}
DEFINITION: dict[str, Any] = {
    "step_metric": None,
    "step_sync": False,
    "hidden": False,
    "summary": [],
    "goal": None,
}
Record = dict[str, Any]
Row = tuple[int, float, float, int, Record]  # step, timestamp, runtime, attempt, values


class UnreadableError(Exception):
    """The document forbids to read on."""


class Run(msgspec.Struct):
    """What a run directory says, or one writer of it; ``damage`` is offsets and sizes."""

    state: Record
    info: Record = {}
    rows: list[Row] = []
    artifacts: list[Record] = []
    status: str = "crashed"
    damage: list[tuple[int, int]] = []
    torn: int = 0


def parse_document(data: bytes) -> Record:
    """Return the members of a checksummed document."""
    head, _, tail = data.rpartition(b',\n  "checksum": ')
    if tail != b'"crc32:%08x"\n}\n' % zlib.crc32(head + b"\n}\n"):
        raise UnreadableError("checksum")
    members: Record = json.loads(head + b"\n}\n")
    if members["version"] != 1:
        raise UnreadableError("version")
    return members


def parse_segment(data: bytes) -> tuple[list[Any], list[tuple[int, int]], int]:
    """Return the payloads, the header first, the damage, and the size of the torn tail."""
    if data[:8] != MAGIC[: len(data)]:
        raise UnreadableError("magic")
    payloads: list[Any] = []
    damage: list[tuple[int, int]] = []
    offset = end = 8  # where a frame may be, and where the last sound one ended
    while offset + 8 <= len(data):
        length, checksum = struct.unpack_from("<II", data, offset)
        payload = data[offset + 8 : offset + 8 + length]
        whole = 1 <= length <= 2**30 and len(payload) == length
        if not whole or zlib.crc32(data[offset : offset + 4] + payload) != checksum:
            offset += 1
            continue
        if offset > end:
            damage.append((end, offset - end))
        offset = end = offset + 8 + length
        try:
            value = msgspec.msgpack.decode(payload)
        except msgspec.DecodeError:
            value = None
        if payloads and not (isinstance(value, list) and value):
            damage.append((end - length, length))
        else:
            payloads.append(value)
    if not payloads:
        return [], [], len(data)
    if (damage and damage[0][0] == 8) or not _is_header(payloads[0]):
        raise UnreadableError("header")
    return payloads, damage, len(data) - end


def _is_header(payload: Any) -> bool:
    return isinstance(payload, dict) and payload.get("format") == 1


class Fold:
    """Adds the records of a writer up to a state and rows."""

    def __init__(self, attempt: int, state: Record) -> None:
        self.attempt, self.state, self.rows = attempt, state, list[Row]()

    @property
    def definitions(self) -> list[Record]:
        definitions: list[Record] = self.state["metrics"]["definitions"]
        return definitions

    def segment(self, records: list[Any]) -> None:
        row: Row | None = None
        for kind, *rest in [*records, ("end", None)]:  # the end closes an open row, too
            if row is not None and (rest[0] == "finish" if kind == "event" else rest[0] != row[0]):
                self.close(row)
                row = None
            if kind == "event":
                self.event(*rest)
            elif kind != "end":
                step, timestamp, runtime, values = rest
                values = {**(row[4] if row else {}), **values}
                row = (step, timestamp, runtime, self.attempt, values)
            if kind == "history" and row:
                self.close(row)
                row = None

    def close(self, row: Row) -> None:
        self.rows.append(row)
        globs = [d for d in self.definitions if d["name"].endswith("*")]
        for name, value in row[4].items():
            if self.definition(name) is None and not name.startswith("_"):
                found = [d for d in globs if name.startswith(d["name"][:-1])]
                self.definitions.extend({**d, "name": name} for d in found[:1])
            asked = (self.definition(name) or DEFINITION)["summary"]
            shown = self.aggregate(name, value, asked) if asked else value
            if shown is not None and "none" not in asked:
                self.state["summary"][name] = shown

    def aggregate(self, name: str, value: Any, asked: list[str]) -> Record:
        new = {**AGGREGATE, "total": 0.0, "count": 0}
        a: Record = self.state["metrics"]["aggregates"].setdefault(name, new)
        a["first"] = value if a["first"] is None and a["count"] == 0 else a["first"]
        a["last"] = value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            a["min"] = value if value < a["min"] or value != value else a["min"]
            a["max"] = value if value > a["max"] or value != value else a["max"]
            a["total"], a["count"] = a["total"] + value, a["count"] + 1
        numbers = {**a, "mean": a["total"] / a["count"]} if a["count"] else {}
        known = {"first": a["first"], "last": a["last"], **numbers}
        return {key: known[key] for key in asked if key in known}

    def definition(self, name: str) -> Record | None:
        return next((d for d in self.definitions if d["name"] == name), None)

    def event(self, kind: str, timestamp: float, body: Record) -> None:
        state = self.state
        state["last_seen"] = timestamp
        if kind in ("config", "summary"):
            state[kind].update(body["update"])
            for key in body["remove"]:
                state[kind].pop(key, None)
        if kind == "summary":
            for key in (*body["update"], *body["remove"]):
                state["metrics"]["aggregates"].pop(key, None)
                if (definition := self.definition(key)) and not key.endswith("*"):
                    definition["summary"] = ["none"] if "none" in definition["summary"] else []
        elif kind == "metric":
            self.define({**DEFINITION, **body})
        elif kind == "artifact":
            state["artifacts"].append(body["manifest"])
        elif kind == "dropped":
            state["dropped"] += body["count"]
        elif kind == "attempt":
            state["process"] = body
        elif kind == "resume":
            state.update(body, resumed=True)
        elif kind == "finish":
            state["exit_code"] = body["exit_code"]

    def define(self, later: Record) -> None:
        overwrite, earlier = later.pop("overwrite", False), self.definition(later["name"])
        if earlier is None:
            self.definitions.append(later)
            return
        if not overwrite:
            new, old = later["summary"], earlier["summary"]
            none = ["none"] if "none" in new or (not new and "none" in old) else []
            later["summary"] = [name for name in {*old, *new} if name != "none"] + none
            for key in ("step_metric", "goal", "step_sync", "hidden"):
                later[key] = later[key] or earlier[key]
        earlier.update(later)


def read_run(root: Path, *, host: str, now: float) -> Run:
    """Read the run at ``root``, on the machine ``host`` at the time ``now``."""
    directories = sorted((root / "attempts").glob("*"), key=lambda path: int(path.name))
    begun = [path for path in directories if any(path.glob("[jm]*-000*"))]
    writers = {path: _read_writer(root, path) for path in begun}
    run = Run({"config": {}, "summary": {}, "dropped": 0, "exit_code": None})
    run.info = parse_document((root / "run.json").read_bytes())
    limit = float("inf")
    for writer in reversed(writers.values()):
        run.rows += [row for row in writer.rows if row[0] < limit]
        if writer.rows:
            limit = min(limit, writer.state["process"].get("from_step", 0))
    run.rows.sort(key=lambda row: row[0])
    for directory, writer in writers.items():
        state = writer.state
        if state["resumed"] or int(directory.name) == 0:
            run.state |= {"config": state["config"], "summary": state["summary"]}
        run.state["dropped"] += state["dropped"]
        run.state["exit_code"] = state["exit_code"]
        paths = [root / "artifacts" / name for name in state["artifacts"]]
        run.artifacts += [parse_document(path.read_bytes()) for path in paths]
        run.damage += writer.damage
        run.torn += writer.torn
        alive = "running" if _is_alive(state, host, now) else "crashed"
        run.status = {None: alive, 0: "finished"}.get(state["exit_code"], "failed")
    return run


def _read_writer(root: Path, directory: Path) -> Run:
    manifest: Record = {"segments": 0, "parts": []}
    manifest["state"] = {"config": {}, "summary": {}, "artifacts": [], "process": {}}
    manifest["state"] |= {"dropped": 0, "last_seen": 0.0, "exit_code": None, "resumed": False}
    manifest["state"]["metrics"] = {"definitions": [], "aggregates": {}}
    if (path := directory / "manifest-000.json").exists():
        manifest = parse_document(path.read_bytes())
    parts: dict[str, list[Record]] = {"history": [], "histograms": [], "events": []}
    for part in manifest["parts"]:
        parts[part["name"].split("/")[0]] += _read_part(root / part["name"], part["rows"])
    fold = Fold(int(directory.name), manifest["state"])
    fold.rows += _rows(parts["history"], parts["histograms"])
    writer = Run(fold.state, rows=fold.rows)
    numbers = sorted(int(path.stem.split("-")[2]) for path in directory.glob("journal-000-*.wbk"))
    for number in numbers:
        if number >= manifest["segments"]:
            path = directory / f"journal-000-{number:03d}.wbk"
            payloads, damage, torn = parse_segment(path.read_bytes())
            fold.segment(payloads[1:])
            writer.damage += damage
            writer.torn += torn
    return writer


def _read_part(path: Path, rows: int) -> list[Record]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
    except OSError as error:
        raise UnreadableError(path.name) from error
    encoding = {column.name: column.metadata or {} for column in table.schema}
    records: list[Record] = table.to_pylist()
    if len(records) != rows:
        raise UnreadableError(path.name)
    for name in [n for n in encoding if encoding[n].get(b"wandbkeras.encoding") == b"json"]:
        for record in records:
            record[name] = None if record[name] is None else json.loads(record[name])
    return records


def _rows(history: list[Record], histograms: list[Record]) -> list[Row]:
    of_step: dict[int, Record] = {}
    for record in histograms:
        value = {"_type": "histogram", "values": record["values"], "bins": record["bins"]}
        stats = {name: record[name] for name in STATS if record[name] is not None}
        value |= {"stats": stats} if stats else {}
        of_step.setdefault(record["_step"], {})[record["key"]] = value
    rows = []
    for record in history:
        step, timestamp, runtime, attempt = (record.pop(name) for name in INDEX)
        nulls = dict.fromkeys(record.pop("_null", None) or ())
        values = {name: value for name, value in record.items() if value is not None}
        rows.append((step, timestamp, runtime, attempt, values | nulls | of_step.get(step, {})))
    return rows


def _is_alive(state: Record, host: str, now: float) -> bool:
    process, boot = state["process"], Path("/proc/sys/kernel/random/boot_id")
    here = (host, boot.read_text().strip() if boot.exists() else None)
    if (process.get("host"), process.get("boot")) != here or process["started"] is None:
        return bool(now - state["last_seen"] < 90)
    stat = Path(f"/proc/{process['pid']}/stat")
    fields = stat.read_text().rpartition(")")[2].split() if stat.exists() else ["X"]
    return fields[0] not in "ZX" and int(fields[19]) == process["started"]
