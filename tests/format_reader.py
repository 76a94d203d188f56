"""A second reader of run directories, written from docs/format.md alone.

It shares no line with the package, so where the two agree, it is the document that makes them.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
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
Place = tuple[str, int, int]  # path within the run, offset, size
NUMBER = (int, float)
PIECE = (str, int, NUMBER, NUMBER, dict)
SHAPES = {"history": PIECE, "partial": PIECE, "event": (str, str, NUMBER, dict)}
SUMS = ("dropped", "dropped_events", "failures")


class UnreadableError(Exception):
    """The document forbids to read on."""


class Run(msgspec.Struct):
    """What a run directory says, or one writer of it."""

    state: Record
    attempt: int = 0
    info: Record = {}
    rows: list[Row] = []
    histograms: list[tuple[int, int, str, Any]] = []  # attempt, step, metric, value
    artifacts: list[Record] = []
    tables: list[tuple[str, int, Any]] = []  # metric, step, the cells of each column
    status: str = "crashed"
    damage: list[Place] = []
    torn: int = 0


class Segment(msgspec.Struct):
    """What one file of a journal says; ``damage`` is offsets and sizes."""

    header: Record | None = None
    records: list[list[Any]] = []
    damage: list[tuple[int, int]] = []
    torn: int = 0


def parse_document(data: bytes, kind: str) -> Record:
    """Return the members of a checksummed document."""
    ending = re.search(rb',\n  "checksum": "crc32:([0-9a-f]{8})"\n}\n\Z', data)
    if not ending or zlib.crc32(data[: ending.start()] + b"\n}\n") != int(ending[1], 16):
        raise UnreadableError("checksum")
    members: Record = json.loads(data.decode())
    del members["checksum"]
    if (members["format"], members["version"]) != (f"wandbkeras-{kind}", 1):
        raise UnreadableError("version")
    return members


def parse_segment(data: bytes) -> Segment:
    """Return what is sound in a segment, and where it isn't."""
    if data == MAGIC[: len(data)]:
        return Segment(torn=len(data))
    segment = Segment(damage=[] if data[:8] == MAGIC else [(0, 8)])
    offset = end = 8  # where a frame may be, and where the last sound one ended
    while offset + 8 <= len(data):
        length, checksum = struct.unpack_from("<II", data, offset)
        payload = data[offset + 8 : offset + 8 + length]
        whole = 1 <= length <= 2**26 and len(payload) == length
        if not whole or zlib.crc32(data[offset : offset + 4] + payload) != checksum:
            offset += 1
            continue
        if offset > end:
            segment.damage.append((end, offset - end))
        offset = end = offset + 8 + length
        try:
            value = msgspec.msgpack.decode(payload)
        except msgspec.DecodeError:
            segment.damage.append((end - length, length))
            continue
        if isinstance(value, dict) and segment.header is None:
            segment.header = value
            if (value.get("format"), value.get("version")) != ("wandbkeras-journal", 1):
                raise UnreadableError("version")
        elif isinstance(value, list) and value:
            segment.records.append(value)
        else:
            segment.damage.append((end, 0))
    rest = data[end:]
    if rest and not is_torn(rest, end):
        segment.damage.append((end, len(rest)))
        rest = b""
    if segment.header is None and not segment.records:
        return Segment(damage=[(0, len(data))]) if segment.damage else Segment(torn=len(data))
    segment.torn = len(rest)
    return segment


def is_torn(rest: bytes, offset: int) -> bool:
    """Whether the end of a segment, from ``offset`` on, is no more than torn."""
    zeros = len(rest) - len(rest.rstrip(b"\0"))
    block = -offset % 4096
    if zeros == len(rest) or (block < len(rest) and len(rest) - block <= zeros):
        return True
    if len(rest) <= 8:
        return True
    length, checksum = struct.unpack_from("<II", rest)
    payload = rest[8:]
    is_whole = zlib.crc32(struct.pack("<I", len(payload)) + payload) == checksum
    return bool(length > len(payload) and not is_whole)


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
            if kind not in (*SHAPES, "end"):
                continue
            if kind != "end":
                check_shape([kind, *rest])
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
        self.state["rows"] += 1
        self.state |= {"last_step": row[0], "last_row_timestamp": row[1], "runtime": row[2]}
        globs = [d for d in self.definitions if d["name"].endswith("*")]
        for name in row[4]:
            if self.definition(name) is None and not name.startswith("_"):
                found = [d for d in globs if name.startswith(d["name"][:-1])]
                self.definitions.extend({**d, "name": name} for d in found[:1])
        latest = self.state["metrics"]["latest_step"]
        latest |= {key: row[4][key] for key in latest if is_number(row[4].get(key))}
        for name, value in row[4].items():
            asked = (self.definition(name) or DEFINITION)["summary"]
            shown = self.aggregate(name, value, asked) if asked else value
            if shown is not None and "none" not in asked:
                self.state["summary"][name] = shown

    def aggregate(self, name: str, value: Any, asked: list[str]) -> Record:
        new = {**AGGREGATE, "total": 0.0, "count": 0}
        a: Record = self.state["metrics"]["aggregates"].setdefault(name, new)
        a["first"] = value if a["first"] is None and a["count"] == 0 else a["first"]
        a["last"] = value
        if is_number(value):
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
        update, remove = body.get("update", {}), body.get("remove", [])
        if kind in ("config", "summary"):
            state[kind].update(update)
            for key in remove:
                state[kind].pop(key, None)
        if kind == "summary":
            for key in (*update, *remove):
                state["metrics"]["aggregates"].pop(key, None)
                if (definition := self.definition(key)) and not key.endswith("*"):
                    definition["summary"] = ["none"] if "none" in definition["summary"] else []
        elif kind == "metric":
            self.define({**DEFINITION, **body})
        elif kind == "artifact":
            state["artifacts"].append(body["manifest"])
        elif kind == "artifact_dropped":
            state["dropped_artifacts"].append(body["manifest"])
        elif kind == "file":
            state["files"][body["path"]] = {key: body[key] for key in ("sha256", "md5", "size")}
        elif kind == "dropped":
            state["dropped"] += body["rows"]
            state["dropped_events"] += body["events"]
        elif kind == "failure":
            state["failures"] += 1
        elif kind in ("attempt", "rollback"):
            state["process"] |= {key: body[key] for key in body if key != "resume"}
            if body.get("resume") is not None:
                taken = {key: body["resume"][key] for key in ("config", "summary", "metrics")}
                state.update(taken, resumed=True)
        elif kind == "finish":
            state |= {"exit_code": body["exit_code"], "runtime": body["runtime"]}

    def define(self, later: Record) -> None:
        overwrite, earlier = later.pop("overwrite", False), self.definition(later["name"])
        if earlier is None:
            self.definitions.append(later)
        elif not overwrite:
            new, old = later["summary"], earlier["summary"]
            none = ["none"] if "none" in new or (not new and "none" in old) else []
            later["summary"] = [name for name in {*old, *new} if name != "none"] + none
            for key in ("step_metric", "goal", "step_sync", "hidden"):
                later[key] = later[key] or earlier[key]
        if earlier is not None:
            earlier.update(later)
        if later["step_metric"]:
            self.state["metrics"]["latest_step"].setdefault(later["step_metric"], 0)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_shape(record: list[Any]) -> None:
    """Refuse a record of a known kind that has not the elements of its kind."""
    shape = SHAPES[record[0]]
    if len(record) != len(shape) or not all(map(isinstance, record, shape)):
        raise UnreadableError("shape")


def read_run(root: Path, *, host: str, now: float) -> Run:
    """Read the run at ``root``, on the machine ``host`` at the time ``now``."""
    run = Run(_new_state(), info=parse_document((root / "run.json").read_bytes(), "run"))
    names = [path.relative_to(root).as_posix() for path in root.glob("attempts/*/*")]
    found = [re.fullmatch(r"attempts/(\d+)/(?:manifest|journal)-(\d+)[-.].*", n) for n in names]
    owners = sorted({(int(match[1]), int(match[2])) for match in found if match})
    writers = [_read_writer(root, *owner) for owner in owners]
    run.rows = _merged_rows(writers)
    for writer in writers:
        state = writer.state
        if state["resumed"]:
            run.state |= {"config": {}, "summary": {}}
            run.state["metrics"] = {"definitions": [], "aggregates": {}, "latest_step": {}}
        _add_metrics(run.state["metrics"], state["metrics"])
        run.state["config"].update(state["config"])
        run.state["summary"].update(state["summary"])
        run.state |= {name: run.state[name] + state[name] for name in SUMS}
        run.state["runtime"] = max(run.state["runtime"], state["runtime"])
        run.state |= {name: state[name] for name in ("process", "last_seen")}
        run.state["files"].update(state["files"])
        run.state["artifacts"] += state["artifacts"]
        run.state["dropped_artifacts"] += state["dropped_artifacts"]
        run.damage += writer.damage
        run.torn += writer.torn
    if with_rows := [writer for writer in writers if writer.state["last_step"] is not None]:
        last = [w.state for w in with_rows if w.attempt == with_rows[-1].attempt]
        furthest = max(last, key=lambda state: state["last_step"])
        run.state |= {name: furthest[name] for name in ("last_step", "last_row_timestamp")}
    dropped = run.state["dropped_artifacts"]
    run.state["artifacts"] = [name for name in run.state["artifacts"] if name not in dropped]
    paths = [root / "artifacts" / name for name in run.state["artifacts"]]
    found = [parse_document(path.read_bytes(), "artifact") for path in paths]
    default: Record = {"references": {}, "tables": {}, "used": False, "step": None}
    run.artifacts = [{**default, **artifact} for artifact in found]
    lost = {path for path, _, _ in run.damage if path.startswith("tables/")}
    run.rows = [
        (*row, {k: v for k, v in values.items() if table_path(v) not in lost})
        for *row, values in run.rows
    ]
    run.state["summary"] = {
        k: v for k, v in run.state["summary"].items() if table_path(v) not in lost
    }
    for step, *_, values in run.rows:
        named = {key: value for key, value in values.items() if table_path(value)}
        run.tables += [(key, step, read_table(root, value)) for key, value in named.items()]
    for artifact in run.artifacts:
        run.tables += [(k, -1, read_table(root, v)) for k, v in artifact["tables"].items()]
    last = [writer.state for writer in writers if writer.attempt == writers[-1].attempt]
    unended = [state for state in last if state["exit_code"] is None]
    if any(_is_alive(state, host, now) for state in unended):
        run.status = "running"
    elif last and not unended:
        run.status = "failed" if any(state["exit_code"] for state in last) else "finished"
    if last and not unended:
        run.state["exit_code"] = max((state["exit_code"] for state in last), key=abs)
    return run


def _add_metrics(total: Record, metrics: Record) -> None:
    known = {definition["name"] for definition in total["definitions"]}
    total["definitions"] += [d for d in metrics["definitions"] if d["name"] not in known]
    for name in ("aggregates", "latest_step"):
        total[name] = {**metrics[name], **total[name]}


def table_path(value: Any) -> str:
    """Return the path of the table that a value names; empty if it names none."""
    types = ("table/parquet", "images/parquet", "image/parquet")
    return str(value["path"]) if isinstance(value, dict) and value.get("_type") in types else ""


def read_table(root: Path, named: Record) -> Record:
    """Return the cells of each column; of images with caption and masks, and what describes it."""
    form = r"tables/[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}/\d{8,19}-\d{3,5}-\d{3,5}-\d{4,9}\.parquet"
    if not re.fullmatch(form, named["path"]):
        raise UnreadableError(named["path"])
    data = (root / named["path"]).read_bytes()
    if (hashlib.sha256(data).hexdigest(), len(data)) != (named["sha256"], named["size"]):
        raise UnreadableError(named["path"])
    with pq.ParquetFile(io.BytesIO(data)) as file:
        cells, metadata = file.read().to_pydict(), file.metadata.metadata
    if metadata[b"wandbkeras.version"] != b"1":
        raise UnreadableError("version")
    for name in json.loads(metadata[b"wandbkeras.json"]):
        cells[name] = [None if text is None else json.loads(text) for text in cells[name]]
    found: Record = {}
    for column in json.loads(metadata[b"wandbkeras.table"])["columns"]:
        described = {k: v for k, v in column.items() if k not in ("name", "caption", "masks")}
        masks = {m["name"]: (m["labels"], cells[m["column"]]) for m in column.get("masks", ())}
        captions = cells[column["caption"]] if "caption" in column else None
        found[column["name"]] = (described, cells[column["name"]], captions, masks)
    return found


def _merged_rows(writers: list[Run]) -> list[Row]:
    rows: dict[int, Row] = {}
    histograms: dict[tuple[int, int], Record] = {}
    for writer in writers:
        starts = [
            later.state["process"].get("from_step")
            for later in writers
            if later.attempt > writer.attempt and later.rows
        ]
        limit = min((start for start in starts if start is not None), default=2**63)
        for step, timestamp, runtime, attempt, values in writer.rows:
            if step < limit:
                first = rows.setdefault(step, (step, timestamp, runtime, attempt, {}))
                first[4].update({k: v for k, v in values.items() if k not in first[4]})
        for attempt, step, name, value in writer.histograms:
            if step < limit:
                histograms.setdefault((attempt, step), {})[name] = value
    for step, row in rows.items():
        row[4].update(histograms.get((row[3], step), {}))
    return [rows[step] for step in sorted(rows)]


def _new_state() -> Record:
    zeros = dict.fromkeys(("rows", *SUMS), 0) | {"runtime": 0.0, "last_seen": 0.0}
    nulls = dict.fromkeys(("last_step", "last_row_timestamp", "exit_code"))
    metrics: Record = {"definitions": [], "aggregates": {}, "latest_step": {}}
    maps: Record = {"config": {}, "summary": {}, "process": {}, "metrics": metrics}
    lists: Record = {"artifacts": [], "dropped_artifacts": []}
    return {**zeros, **nulls, **maps, **lists, "files": {}, "resumed": False}


def _read_writer(root: Path, attempt: int, number: int) -> Run:
    manifest: Record = {"segments": 0, "parts": [], "damage": [], "state": _new_state()}
    directory = f"attempts/{attempt:03d}"
    if (path := root / directory / f"manifest-{number:03d}.json").exists():
        manifest = parse_document(path.read_bytes(), "manifest")
    parts: dict[str, list[Record]] = {"history": [], "histograms": [], "events": []}
    for part in manifest["parts"]:
        if not re.fullmatch(r"[a-z_]{1,32}/\d{3,}-\d{3,}-\d{3,}\.parquet", part["name"]):
            raise UnreadableError(part["name"])
        if (stream := part["name"].split("/")[0]) in parts:
            parts[stream] += _read_part(root / part["name"], part)
    fold = Fold(attempt, manifest["state"])
    fold.rows += _rows(parts["history"])
    writer = Run(fold.state, attempt, histograms=_histograms(parts["histograms"]))
    writer.damage += [(d["path"], d["offset"], d["size"]) for d in manifest["damage"]]
    names = [path.name for path in (root / directory).iterdir()]
    found = [re.fullmatch(rf"journal-{number:03d}-(\d{{3,}})\.wbk", name) for name in names]
    last = max((int(match[1]) for match in found if match), default=-1)
    for index in range(manifest["segments"], last + 1):
        name = f"{directory}/journal-{number:03d}-{index:03d}.wbk"
        if not (root / name).exists():
            writer.damage.append((name, 0, 0))
            continue
        data = (root / name).read_bytes()
        segment = parse_segment(data)
        writer.damage += [(name, offset, size) for offset, size in segment.damage]
        if index == last:
            writer.torn = segment.torn
        elif segment.torn:
            writer.damage.append((name, len(data) - segment.torn, segment.torn))
        place, header = {"attempt": attempt, "writer": number, "segment": index}, segment.header
        if header and any(header.get(key, place[key]) != place[key] for key in place):
            writer.damage.append((name, 0, 0))
            continue
        if header and not fold.state["process"]:
            fold.state["process"] = dict(header.get("process") or {})
        fold.segment(segment.records)
    for step, *_, values in fold.rows:
        for key in [k for k, v in values.items() if _is_histogram(v)]:
            writer.histograms.append((attempt, step, key, values.pop(key)))
    writer.rows = fold.rows
    return writer


def _is_histogram(value: Any) -> bool:
    return isinstance(value, dict) and value.get("_type") == "histogram"


def _read_part(path: Path, part: Record) -> list[Record]:
    data = path.read_bytes() if path.exists() else b""
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    if data[:4] != b"PAR1" or hashlib.sha256(data[footer:]).hexdigest() != part["footer"]:
        raise UnreadableError(path.name)
    with pq.ParquetFile(io.BytesIO(data)) as file:
        if _checksums(file.metadata, data, footer) != part["chunks"]:
            raise UnreadableError(path.name)
        records: list[Record] = file.read().to_pylist()
        metadata = file.metadata.metadata
    if (len(records), len(data)) != (part["rows"], part["size"]):
        raise UnreadableError(path.name)
    for name in json.loads(metadata[b"wandbkeras.json"]):
        for record in records:
            record[name] = None if record[name] is None else json.loads(record[name])
    return records


def _checksums(metadata: pq.FileMetaData, data: bytes, footer: int) -> str:
    """Return the CRC-32 of each column chunk, from its first page to the next one."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    starts = [min(c.dictionary_page_offset or footer, c.data_page_offset) for c in chunks]
    if starts[0] != 4 or starts != sorted(starts):
        raise UnreadableError("order of the columns")
    ends = [*starts[1:], footer]
    return "".join(f"{zlib.crc32(data[a:b]):08x}" for a, b in zip(starts, ends, strict=True))


def _histograms(records: list[Record]) -> list[tuple[int, int, str, Any]]:
    found = []
    for record in records:
        value = {"_type": "histogram", "values": record["values"], "bins": record["bins"]}
        stats = {name: record[name] for name in STATS if record[name] is not None}
        value |= {"stats": stats} if stats else {}
        found.append((record["_attempt"], record["_step"], record["key"], value))
    return found


def _rows(history: list[Record]) -> list[Row]:
    rows = []
    for record in history:
        step, timestamp, runtime, attempt = (record.pop(name) for name in INDEX)
        nulls = dict.fromkeys(record.pop("_null", None) or ())
        values = {name: value for name, value in record.items() if value is not None}
        rows.append((step, timestamp, runtime, attempt, values | nulls))
    return rows


def _is_alive(state: Record, host: str, now: float) -> bool:
    process, boot = state["process"], Path("/proc/sys/kernel/random/boot_id")
    here = {"host": host, "boot": boot.read_text().strip() if boot.exists() else None}
    pids = Path("/proc/self/ns/pid")
    here["pids"] = str(pids.readlink()) if pids.exists() else None
    if {key: process.get(key) for key in here} != here or process.get("started") is None:
        return bool(now - state["last_seen"] < 90)
    stat = Path(f"/proc/{process['pid']}/stat")
    fields = stat.read_text().rpartition(")")[2].split() if stat.exists() else ["X"]
    return fields[0] not in "ZX" and int(fields[19]) == process["started"]
