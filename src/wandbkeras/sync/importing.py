"""Importing: the directory that wandb leaves offline as a run of ours.

Rows, config, summary, files and artifacts become what they are in any run; the rest is kept as it
was and sent again when the run is synced. Nothing of the source is changed.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from wandbkeras.errors import DamagedError, NotFoundError, RunExistsError, UsageError
from wandbkeras.store import document
from wandbkeras.store.checks import check_row
from wandbkeras.store.disk import Disk
from wandbkeras.store.layout import Layout, run_directory_name
from wandbkeras.store.names import check_aliases, check_artifact_name
from wandbkeras.store.schema import (
    CLIENT_FILES,
    ArtifactFile,
    ArtifactVersion,
    Reference,
    RunInfo,
    checked_info,
    is_relative_path,
)
from wandbkeras.store.writer import RunWriter
from wandbkeras.sync.artifacts import CLIENT_URI
from wandbkeras.sync.imported import CLIENT_FILES_FOLDER, DETAILS, MADE_BY_CLIENT, RECORDS, Details
from wandbkeras.sync.logged_artifact import LoggedArtifact
from wandbkeras.sync.logged_run import LoggedRun, read_rows, read_run
from wandbkeras.sync.media import base64_digest
from wandbkeras.sync.transaction_log import TransactionLog

_NAME = re.compile(r"(?:offline-)?run-(\d{8}_\d{6})-(.+)")


@dataclass(frozen=True)
class Import:
    """What became of a directory: the run at ``path``, and what could not be taken over.

    ``kept`` counts the records that are sent again as they were, by their kinds. ``left_out`` is
    what is not in the run, a line each; ``torn`` the bytes of a last record that is not whole.
    """

    source: Path
    path: Path
    run_id: str
    rows: int
    artifacts: int
    files: int
    kept: Mapping[str, int]
    left_out: tuple[str, ...]
    torn: int


def import_run(source: Path, store: Path) -> Import:
    """Make the run that wandb left in the directory ``source`` a run in ``store``.

    It is there whole or not at all. NotFoundError if there is no log, DamagedError if there is no
    run in it, RunExistsError if the store has a run of this id.
    """
    log = _find_log(source)
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".wandb-import-", dir=store) as scratch:
        with TransactionLog(Path(scratch) / "records.wandb") as kept:
            logged = read_run(log, kept)
        info = _info(logged, log)
        if any(store.glob(f"run-????????_??????-{info.id}")):
            raise RunExistsError(f"{store}: has a run {info.id!r} already: name another store")
        root = Path(scratch) / run_directory_name(info.id, info.created)
        root.mkdir()
        writing = _Writing(log, logged, info, root)
        try:
            writing.write(Path(scratch) / "records.wandb")
        finally:
            writing.close()
        Disk().replace(root, store / root.name)
        Disk().sync_directory(store)
    return Import(
        source,
        store / root.name,
        info.id,
        rows=writing.rows,
        artifacts=len(writing.details.version_ids),
        files=writing.files,
        kept=dict(logged.kept),
        left_out=tuple(writing.troubles),
        torn=logged.losses.torn,
    )


def is_wandb_directory(path: Path) -> bool:
    """Whether wandb left a run there."""
    return bool(_NAME.fullmatch(path.name)) and any(path.glob("run-*.wandb"))


def _find_log(source: Path) -> Path:
    found = [*source.glob("*.wandb")] if source.is_dir() else []
    if len(found) != 1:
        raise NotFoundError(
            f"{source}: {len(found)} files *.wandb in it: expected the directory offline-run-… of "
            "one run, as wandb leaves it"
        )
    return found[0]


def _info(logged: LoggedRun, log: Path) -> RunInfo:
    """Return who the run is; if its record is lost, what the names of file and directory say."""
    if not logged.id:
        named = _NAME.fullmatch(log.parent.name)
        if named is None:
            raise DamagedError(f"{log}: no record of it says which run it is")
        logged.id = named[2]
        moment = datetime.strptime(named[1], "%Y%m%d_%H%M%S").replace(tzinfo=timezone.utc)
        logged.created = moment.timestamp()
        logged.left_out["the record of who the run is: project, name, tags, config"] += 1
    names = dict(logged.names)
    for tag in [*names.get("tags", ())]:
        try:
            checked_info(RunInfo("x", 0.0, tags=(tag,)))
        except UsageError as error:
            names["tags"] = tuple(t for t in names["tags"] if t != tag)
            logged.left_out[f"a tag: {error}"] += 1
    return checked_info(RunInfo(logged.id, logged.created or 0.0, **names))


class _Writing:
    """Writes one run into an empty directory."""

    def __init__(self, log: Path, logged: LoggedRun, info: RunInfo, root: Path) -> None:
        self._log = log
        self._logged = logged
        self._now = info.created
        layout = Layout(root.resolve())
        process = {
            "host": info.host,
            "program": logged.program,
            "python": logged.python.removeprefix("CPython "),
            "from_step": 0,
            "run": asdict(info),
        }
        self._writer = RunWriter(layout, process, begin=0, clock=lambda: self._now, on_full="raise")
        document.write(Disk(), layout.info, info.to_document())
        runtime = logged.summary_runtime
        self.details = Details(
            logged.started,
            float(runtime) if isinstance(runtime, (int, float)) else None,
            logged.mask_labels,
        )
        self._needed: set[str] = set()
        self.rows = 0
        self.files = 0

    def write(self, kept: Path) -> None:
        """Write everything; ``kept`` is the log of what is sent again as it was."""
        logged, writer = self._logged, self._writer
        if logged.config:
            writer.event("config", {"update": logged.config})
        self._write_files()
        for artifact in logged.artifacts:
            self._write_artifact(artifact)
        self._write_rows()
        if logged.summary:
            superfluous = sorted(writer.state.summary.keys() - logged.summary.keys())
            summary = self._with_ids_known(logged.summary)
            writer.event("summary", {"update": summary, "remove": superfluous})
        # Last: rows and summary are what the client has made of them.
        for definition in logged.metrics:
            writer.event("metric", definition.to_body())
        for text in self.troubles:
            writer.event("failure", {"where": "import", "reason": text})
        self._save(RECORDS, writer.files.add(kept, adopt=True))
        details = kept.with_name("details.json")
        details.write_bytes(self.details.to_json())
        self._save(DETAILS, writer.files.add(details, adopt=True))

    @property
    def troubles(self) -> list[str]:
        """What of the log is not in the run, a line each."""
        losses = self._logged.losses
        damage = f"{losses.damaged} damaged places in the log, {losses.bytes} bytes"
        left_out = (f"{text} ({n} times)" for text, n in self._logged.left_out.items())
        return [*([damage] if losses.damaged else []), *left_out]

    def close(self) -> None:
        """End the run as it ended; one without an end was killed."""
        logged = self._logged
        if logged.exit_code is None:
            self._writer.abandon()
        else:
            runtime = self._writer.state.runtime if logged.runtime is None else logged.runtime
            self._writer.close(logged.exit_code, runtime)

    def _write_rows(self) -> None:
        for row in read_rows(self._log, self._logged.left_out):
            values = self._with_ids_known(row.values)
            try:
                check_row(values)
            except ValueError:
                values = self._held(values)
            self._now = max(self._now, row.timestamp)
            with self._writer.lock:
                self._writer.history(row.step, row.timestamp, row.runtime, values, True)
            self.rows += 1

    def _held(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of a row's values that a run can hold."""
        held = {}
        for key, value in values.items():
            try:
                check_row({key: value})
            except ValueError as error:
                self._logged.left_out[f"history: {key!r:.80}: {error}"] += 1
            else:
                held[key] = value
        return held

    def _with_ids_known(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values without what they say of artifacts that are not in the run."""
        known = {*self.details.version_ids.values(), *self.details.sequence_ids.values()}
        return {key: _without_others(value, known) for key, value in values.items()}

    def _write_files(self) -> None:
        folder, left_out = self._log.parent / "files", self._logged.left_out
        for name in self._logged.files:
            if name in MADE_BY_CLIENT:
                continue
            path = folder / name
            is_clients = name.split("/")[0].casefold() in CLIENT_FILES
            if not is_relative_path(name) or (is_clients and name not in CLIENT_FILES):
                left_out[f"files: {name!r:.80} is no name that a file of a run may have"] += 1
            elif not path.is_file():
                left_out[f"files: {name!r:.80} is not there"] += 1
            else:
                # What wandb was told to save is a link there.
                file = self._writer.files.add(path.resolve())
                self._save(f"{CLIENT_FILES_FOLDER}{name}" if is_clients else name, file)
                self.files += 1

    def _save(self, name: str, file: ArtifactFile) -> None:
        self._writer.event("file", {"path": name, **asdict(file)})
        self._needed.add(file.sha256)

    def _write_artifact(self, logged: LoggedArtifact) -> None:
        """Record a version if all of its files are still where wandb had staged them."""
        copied: dict[str, ArtifactFile] = {}
        try:
            if logged.why_not:
                raise ValueError(logged.why_not)
            check_artifact_name(logged.name, "name")
            check_artifact_name(logged.type, "type")
            check_aliases(logged.aliases)
            known = {*self.details.version_ids.values()}
            if any(_names_another(entry.ref, known) for entry in logged.files.values()):
                raise ValueError("it links to a version that is not in the run")
            for path, entry in logged.files.items():
                if not is_relative_path(path):
                    raise ValueError(f"the path {path!r:.80} would leave it")
                if not entry.local_path and not entry.ref:
                    raise ValueError(f"{path!r:.80} is in an earlier version, on the server")
                if entry.local_path:
                    copied[path] = self._staged(Path(entry.local_path), path, entry.digest)
        except (ValueError, UsageError) as error:
            self._logged.left_out[f"artifact {logged.name!r:.80}: {error}"] += 1
            self._remove(copied.values())
            return
        manifest = self._writer.artifact(
            ArtifactVersion(
                name=logged.name,
                type=logged.type,
                aliases=logged.aliases,
                description=logged.description,
                metadata=logged.metadata,
                files=copied,
                references={
                    path: Reference(entry.ref, entry.digest, entry.size or None)
                    for path, entry in logged.files.items()
                    if path not in copied
                },
                used=logged.used,
            )
        )
        self._needed.update(file.sha256 for file in copied.values())
        self.details.version_ids[manifest] = logged.client_id
        self.details.sequence_ids[logged.name] = logged.sequence_client_id

    def _staged(self, path: Path, name: str, digest: str) -> ArtifactFile:
        """Copy a staged file into the run; ValueError unless it is there, with this digest."""
        if not path.is_file():
            raise ValueError(f"{name!r:.80} was staged as {path}, and is not there")
        file = self._writer.files.add(path)
        if base64_digest(file.md5) != digest:
            self._remove([file])
            raise ValueError(f"{name!r:.80} was staged as {path}, which holds something else now")
        return file

    def _remove(self, files: Iterable[ArtifactFile]) -> None:
        """Remove what was copied in vain, unless something else needs it."""
        self._writer.files.remove({file.sha256 for file in files} - self._needed, named=False)


def _without_others(value: Any, known: set[str]) -> Any:
    """Return a value without the URIs of artifacts whose ids are not ``known``."""
    if not isinstance(value, dict) or "artifact_path" not in value:
        return value
    return {name: item for name, item in value.items() if not _names_another(item, known)}


def _names_another(value: Any, known: set[str]) -> bool:
    """Whether a value is the URI of an artifact whose id is not ``known``."""
    if not isinstance(value, str) or not value.startswith(CLIENT_URI):
        return False
    return re.split("[:/]", value.removeprefix(CLIENT_URI))[0] not in known
