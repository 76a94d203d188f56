"""W&B's transaction log, the ``.wandb`` file: the one module that writes its records.

A record is a protobuf message ``Record`` (``logged_run.py`` reads them); those of the history are
encoded in ``log_rows.py``. wandb promises that a new version reads older files, so what is written
here can be uploaded by whatever wandb is installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp
from wandb.proto import wandb_internal_pb2 as pb

from wandbkeras.store.environment import Environment
from wandbkeras.sync.log_blocks import BlockWriter
from wandbkeras.sync.log_rows import json_text, varint

# A record without its number: W&B's object, or its bytes.
LogRecord: TypeAlias = "pb.Record | bytes"
_RECORD_NUMBER = b"\x08"
# Where the config of a run has the class labels of masks.
MASK_LABELS = "mask/class_labels"


@dataclass(frozen=True)
class ManifestEntry:
    """A file of an artifact: ``local_path`` is to be uploaded, ``ref`` is only pointed to.

    ``digest`` is the base64 MD5, or whatever W&B takes for it of a reference.
    """

    digest: str
    size: int
    local_path: str = ""
    ref: str = ""


class TransactionLog:
    """Writes one ``.wandb`` file, record by record."""

    def __init__(self, path: Path) -> None:
        self._blocks = BlockWriter(path)
        self._number = 0

    @property
    def offset(self) -> int:
        """The bytes written so far."""
        return self._blocks.offset

    def write(self, record: LogRecord) -> None:
        """Append a record, numbered; of several numbers the last one counts, as in protobuf."""
        self._number += 1
        data = record if isinstance(record, bytes) else record.SerializeToString()
        self._blocks.write(data + _RECORD_NUMBER + varint(self._number))

    def close(self) -> None:
        self._blocks.close()

    def __enter__(self) -> TransactionLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def header(producer: str) -> pb.Record:
    """Return the record that begins a log."""
    version = pb.VersionInfo(producer=producer, min_consumer="0.40.0")
    return pb.Record(header=pb.HeaderRecord(version_info=version))


def run(
    *,
    run_id: str,
    entity: str | None,
    project: str,
    name: str | None,
    group: str | None,
    job_type: str | None,
    tags: Iterable[str],
    notes: str | None,
    host: str | None,
    start_time: float,
    config: Mapping[str, Any],
    mask_labels: Mapping[str, Mapping[str, str]] | None = None,
    base: pb.RunRecord | None = None,
) -> pb.Record:
    """Return the record that makes the run; ``start_time`` in seconds since the epoch.

    ``mask_labels`` are class labels of masks, by the names that the client gives them; ``base`` is
    what an imported run has beside all this.
    """
    items = [pb.ConfigItem(key=key, value_json=json_text(value)) for key, value in config.items()]
    for key, labels in (mask_labels or {}).items():
        value = {"type": MASK_LABELS, "key": key, "value": labels}
        path = ["_wandb", MASK_LABELS, key]
        items.append(pb.ConfigItem(nested_key=path, value_json=json_text(value)))
    made = pb.RunRecord(
        run_id=run_id,
        entity=entity or "",
        project=project,
        display_name=name or "",
        run_group=group or "",
        job_type=job_type or "",
        tags=list(tags),
        notes=notes or "",
        host=host or "",
        start_time=_timestamp(start_time),
        config=pb.ConfigRecord(update=items),
    )
    if base is not None:
        made.MergeFrom(base)
    return pb.Record(run=made)


def environment(found: Environment, *, host: str, started: float) -> pb.Record:
    """Return what W&B's Overview shows of the machine; ``started`` in seconds since the epoch."""
    record = pb.EnvironmentRecord(
        host=host,
        started_at=_timestamp(started),
        # One machine wrote the run; its part of the config has its name.
        writer_id="wandbkeras",
        os=found.os,
        python=found.python,
        executable=found.executable,
        program=found.program,
        args=found.args,
        code_path=found.code_path,
        code_path_local=found.code_path,
        root=found.directory,
        username=found.user,
        docker=found.image,
        cpu_count=found.cpu.count,
        cpu_count_logical=found.cpu.count_logical,
        cpu=pb.CpuInfo(model=found.cpu.model) if found.cpu.model else None,
        memory=pb.MemoryInfo(total=found.memory.total) if found.memory.total else None,
        disk={n: pb.DiskInfo(total=d.total, used=d.used) for n, d in found.disks.items()},
        gpu_type=found.gpus[0].name if found.gpus else None,
        gpu_count=len(found.gpus) or None,
        gpu_nvidia=[
            pb.GpuNvidiaInfo(name=gpu.name, memory_total=gpu.memory_total, uuid=gpu.uuid)
            for gpu in found.gpus
            if gpu.vendor == "nvidia"
        ],
        gpu_amd=[
            pb.GpuAmdInfo(model=gpu.name, unique_id=gpu.uuid)
            for gpu in found.gpus
            if gpu.vendor == "amd"
        ],
        cuda_version=found.cuda,
    )
    if found.git is not None:
        record.git.CopyFrom(pb.GitRepoRecord(remote_url=found.git.remote, commit=found.git.commit))
    if found.scheduler is not None and found.scheduler.name == "slurm":
        record.slurm.update(found.scheduler.variables)
    return pb.Record(environment=record)


def metric(
    *,
    name: str,
    step_metric: str | None,
    step_sync: bool,
    hidden: bool,
    summary: Iterable[str],
    goal: str | None,
) -> pb.Record:
    """Return a ``define_metric``; a name that ends in ``*`` is a glob."""
    goals = {"minimize": pb.MetricRecord.GOAL_MINIMIZE, "maximize": pb.MetricRecord.GOAL_MAXIMIZE}
    record = pb.MetricRecord(
        step_metric=step_metric or "",
        options=pb.MetricOptions(step_sync=step_sync, hidden=hidden, defined=True),
        summary=pb.MetricSummary(**dict.fromkeys(summary, True)),
        goal=goals.get(goal or "", pb.MetricRecord.GOAL_UNSET),
    )
    if name.endswith("*"):
        record.glob_name = name
    else:
        record.name = name
    return pb.Record(metric=record)


def stats(timestamp: float, metrics: Mapping[str, float]) -> pb.Record:
    """Return a sample of system metrics; the client puts ``system.`` before their names."""
    items = [pb.StatsItem(key=key, value_json=json_text(value)) for key, value in metrics.items()]
    return pb.Record(
        stats=pb.StatsRecord(
            stats_type=pb.StatsRecord.SYSTEM, timestamp=_timestamp(timestamp), item=items
        )
    )


def summary(values: Mapping[str, Any], runtime: float) -> pb.Record:
    """Return the whole summary; ``runtime`` (seconds) is the duration that W&B shows."""
    items = [pb.SummaryItem(key=key, value_json=json_text(value)) for key, value in values.items()]
    duration = pb.SummaryItem(nested_key=["_wandb", "runtime"], value_json=json_text(int(runtime)))
    return pb.Record(summary=pb.SummaryRecord(update=[*items, duration]))


def artifact(
    *,
    run_id: str,
    entity: str,
    project: str,
    name: str,
    type: str,
    digest: str,
    description: str | None,
    metadata: Mapping[str, Any],
    aliases: Iterable[str],
    client_id: str,
    sequence_client_id: str,
    files: Mapping[str, ManifestEntry],
    staging_directory: Path,
    used: bool = False,
    step: int | None = None,
) -> pb.Record:
    """Return a version of an artifact, its files uploaded from where they lie.

    ``used``: the run takes it in, too. ``step`` is where the run was when it was logged.

    It is a ``LogArtifactRequest`` and no bare ``ArtifactRecord``, because only the former names a
    staging directory: clients delete staged files after uploading, and in wandb's public source
    without a name every local file of the manifest counts as staged.
    """
    entries = [
        pb.ArtifactManifestEntry(
            path=path,
            digest=entry.digest,
            size=entry.size,
            local_path=entry.local_path,
            ref=entry.ref,
            # No second copy in the client's cache.
            skip_cache=True,
        )
        for path, entry in sorted(files.items())
    ]
    record = pb.ArtifactRecord(
        run_id=run_id,
        entity=entity,
        project=project,
        name=name,
        type=type,
        digest=digest,
        digest_algorithm="MANIFEST_MD5",
        description=description or "",
        metadata=json_text(dict(metadata)) if metadata else "",
        aliases=list(aliases),
        finalize=True,
        # As the client does it: taken in, and not made by the run.
        user_created=used,
        use_after_commit=used,
        client_id=client_id,
        sequence_client_id=sequence_client_id,
        manifest=pb.ArtifactManifest(
            version=1, storage_policy="wandb-storage-policy-v1", contents=entries
        ),
    )
    request = pb.LogArtifactRequest(
        artifact=record, history_step=step, staging_dir=str(staging_directory)
    )
    return pb.Record(request=pb.Request(log_artifact=request))


def files(names: Iterable[str]) -> pb.Record:
    """Return what names files of the run to upload, which lie in ``files/`` beside the log."""
    items = [pb.FilesItem(path=name, policy=pb.FilesItem.END) for name in names]
    return pb.Record(files=pb.FilesRecord(files=items))


def alert(*, title: str, text: str, level: str) -> pb.Record:
    """Return an alert, which the server sends on at once.

    It is told to wait for none: by its clock all alerts of a run come at the same moment.
    """
    return pb.Record(alert=pb.AlertRecord(title=title, text=text, level=level, wait_duration=0))


def console(text: str, timestamp: float, *, is_error: bool) -> pb.Record:
    """Return text that was printed, on standard error or not; ``timestamp`` in seconds since the
    epoch."""
    stream = pb.OutputRawRecord.STDERR if is_error else pb.OutputRawRecord.STDOUT
    return pb.Record(
        output_raw=pb.OutputRawRecord(
            output_type=stream, line=text, timestamp=_timestamp(timestamp)
        )
    )


def preempting() -> pb.Record:
    """Return that the process was told that it is about to be ended."""
    return pb.Record(preempting=pb.RunPreemptingRecord())


def exit(exit_code: int, runtime: float, *, complete: bool) -> pb.Record:
    """Return the end; with ``complete`` False the run stays in the state running."""
    return pb.Record(
        exit=pb.RunExitRecord(exit_code=exit_code, runtime=int(runtime), not_complete=not complete)
    )


def _timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp
