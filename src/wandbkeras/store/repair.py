"""Repairing a run: what is sound is sealed into a sound run, what was damaged is kept beside it.

It can be interrupted at any moment and run again. A part is replaced as sealing replaces it; a
damaged document is copied to ``damaged/`` before the sound one replaces it, any other damaged file
moves there after nothing needs it any more. No byte is ever deleted that was found damaged.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from wandbkeras.errors import DamagedError, RunningError
from wandbkeras.store import columns, document
from wandbkeras.store.attempts import AttemptView, read_writer
from wandbkeras.store.damage import Damage
from wandbkeras.store.disk import Disk, make_directories, write_file
from wandbkeras.store.layout import STREAMS, Layout
from wandbkeras.store.manifest import read_manifest
from wandbkeras.store.named_tables import in_writer
from wandbkeras.store.parquet import Part
from wandbkeras.store.plain_files import read_file
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.salvage import Salvage
from wandbkeras.store.seal import keep_damaged, move_damaged, seal_content
from wandbkeras.store.source import Source
from wandbkeras.store.state import Event
from wandbkeras.store.verify import Verification, verify_run

# What is no record: it moves, where the rest is sealed anew, which moves what it replaces.
_APART = ("artifacts", "blobs", "sync", "tables")


@dataclass
class Repair:
    """What a repair found, and what is left.

    ``damage`` is what was damaged; ``rows_kept`` and ``rows_lost`` are of the history, where
    ``is_exact`` says whether more may be lost, with damaged records of a journal, than was counted.
    ``artifacts``, ``saved_files`` and ``tables`` are those that are lost. ``moved`` are the damaged
    originals, where they are now. Of a sound run there is nothing but ``rows_kept``.
    """

    run_id: str
    damage: list[Damage] = field(default_factory=list)
    rows_kept: int = 0
    rows_lost: int = 0
    is_exact: bool = True
    artifacts: list[str] = field(default_factory=list)
    saved_files: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)


def repair_run(
    path: Path,
    *,
    disk: Disk | None = None,
    dry_run: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> Repair:
    """Make the run at ``path`` sound; with ``dry_run``, only say what that costs.

    RunningError if it is being recorded, DamagedError if nothing of it can be read.
    """
    layout = Layout(path)
    run = StoredRun(path)
    if run.state == "running":
        raise RunningError(f"{path}: still running: repair it once it has ended")
    repairer = _Repairer(disk or Disk(), layout)
    before = set(_kept(layout))
    if not dry_run:
        repairer.finish_interrupted()
    found = verify_run(path, progress=progress)
    if not found.damage:
        return Repair(run.info.id, rows_kept=run.row_count)
    report = _report(run, found)
    if not dry_run:
        progress(f"{run.info.id}: sealing what is sound")
        repairer.repair(run, found)
        report.moved = [name for name in _kept(layout) if name not in before]
    return report


def _report(run: StoredRun, found: Verification) -> Repair:
    history = [d for d in found.damage if d.path.parts[0] in ("history", "attempts")]
    return Repair(
        run_id=run.info.id,
        damage=found.damage,
        rows_kept=run.history(columns=[]).num_rows,
        rows_lost=sum(damage.rows or 0 for damage in history),
        is_exact=all(damage.rows is not None for damage in history),
        artifacts=list(found.artifacts.values()),
        saved_files=list(found.saved_files.values()),
        tables=list(found.tables.values()),
    )


def _kept(layout: Layout) -> list[str]:
    directory = layout.damaged(layout.info).parent
    return sorted(f"damaged/{path.name}" for path in directory.glob("*"))


class _Repairer:
    def __init__(self, disk: Disk, layout: Layout) -> None:
        self.disk = disk
        self.layout = layout

    def finish_interrupted(self) -> None:
        """Move what an interrupted repair has replaced already, so that no sealing removes it."""
        for attempt, writer in Salvage(self.layout).writers():
            with suppress(DamagedError):
                manifest = read_manifest(self.layout, attempt, writer)
                keep_damaged(self.disk, self.layout, manifest)
                for path in (self.layout.root / damage.path for damage in manifest.damage):
                    if path.parent.parent == self.layout.tables and path.exists():
                        move_damaged(self.disk, self.layout, path)

    def repair(self, run: StoredRun, found: Verification) -> None:
        """Do it; no step leaves a run of which less can be read than before."""
        damaged = [self.layout.root / path for path in sorted({d.path for d in found.damage})]
        if self.layout.info in damaged:
            if self.layout.info.is_symlink():
                move_damaged(self.disk, self.layout, self.layout.info)
            elif self.layout.info.exists():
                self._copy(self.layout.info)
            document.write(self.disk, self.layout.info, run.info.to_document())
        for attempt, writer in Salvage(self.layout).writers():
            self._repair_writer(attempt, writer, found)
        for path in damaged:
            apart = path.relative_to(self.layout.root).parts[0] in _APART
            if apart and (path.is_file() or path.is_symlink()):
                move_damaged(self.disk, self.layout, path)

    def _repair_writer(self, attempt: int, writer: int, found: Verification) -> None:
        """Seal what is sound of a writer, if not all of it is."""
        source = Salvage(self.layout)
        view = read_writer(source, attempt, writer)
        for part in view.manifest.parts:
            _check(source, part)
        console = None if view.manifest.has_console else source.console(attempt, writer)
        lost = _Lost(
            artifacts=[name for name in _kept_artifacts(view) if name in found.artifacts],
            files=sorted(view.state.files.keys() & found.saved_files.keys()),
            tables=sorted(found.tables.keys() & _tables(source, view)),
        )
        if source.damage or view.tail.damage or lost.artifacts or lost.files or lost.tables:
            lost.leave_out(view)
            self._seal(source, view, lost, lost.damage(self.layout, found), console)

    def _seal(
        self,
        source: Salvage,
        view: AttemptView,
        lost: _Lost,
        artifacts: list[Damage],
        console: pa.Table | None,
    ) -> None:
        manifest = view.manifest
        damaged = {damage.path for damage in source.damage}
        read = partial(lost.read, source)
        parts = [
            part
            for part in manifest.parts
            if (len(read(part)) if part.stream in STREAMS else Path(part.name) not in damaged)
        ]
        path = self.layout.manifest(manifest.attempt, manifest.writer)
        make_directories(self.disk, path.parent)
        if source.is_rebuilt(manifest.attempt, manifest.writer) and path.exists():
            self._copy(path)
        numbers = self.layout.segment_numbers(manifest.attempt, manifest.writer)
        damage = (*manifest.damage, *source.damage, *artifacts)
        seal_content(
            self.disk,
            self.layout,
            replace(manifest, parts=tuple(parts), damage=damage),
            view.tail,
            before=max(manifest.segments, *(number + 1 for number in numbers), 0),
            compact=True,
            read=read,
            console=console,
        )

    def _copy(self, path: Path) -> None:
        """Keep a copy of a damaged document, unless an interrupted repair has."""
        data = read_file(path, document.MAX_BYTES, self.layout.root)
        names = (self.layout.damaged(path, number) for number in itertools.count())
        target = next(n for n in names if not n.exists() or n.read_bytes() == data)
        if not target.exists():
            make_directories(self.disk, target.parent)
            write_file(self.disk, target, data)


@dataclass(frozen=True)
class _Lost:
    """What of a writer's artifact versions, saved files and tables lacks its content.

    A row goes on naming a table that is lost: what the manifest says of it counts.
    """

    artifacts: list[str]
    files: list[str]
    tables: list[str]

    def leave_out(self, view: AttemptView) -> None:
        """Take them out of the writer's state and of what it has not sealed yet."""
        for name in self.artifacts:
            # At the time of the last event: who repairs the run is no sign of its life.
            event = Event("artifact_dropped", view.state.last_seen, {"manifest": name})
            view.tail.events.append(event)
            view.state.apply(event)
        view.tail.events[:] = filter(self._is_kept, view.tail.events)
        for name in self.files:
            del view.state.files[name]

    def read(self, source: Salvage, part: Part) -> pa.Table:
        """Return what is sound of a part, without them."""
        table = source.part(part)
        if part.stream != "events" or not self.files:
            return table
        return table.filter(pa.array(map(self._is_kept, columns.read_events(table)), pa.bool_()))

    def damage(self, layout: Layout, found: Verification) -> list[Damage]:
        """Return a line each for the manifest."""
        artifacts = layout.artifacts.relative_to(layout.root)
        return [
            *(Damage(artifacts / name, 0, 0, found.artifacts[name], 0) for name in self.artifacts),
            *(Damage(Path("blobs"), 0, 0, found.saved_files[name], 0) for name in self.files),
            *(Damage(Path(name), 0, 0, found.tables[name], 0) for name in self.tables),
        ]

    def _is_kept(self, event: Event) -> bool:
        return event.type != "file" or event.body["path"] not in self.files


def _tables(source: Source, view: AttemptView) -> set[str]:
    return {named.file.path for named in in_writer(source, view.manifest, view.tail)}


def _kept_artifacts(view: AttemptView) -> list[str]:
    dropped = view.state.dropped_artifacts
    return [name for name in view.state.artifacts if name not in dropped]


def _check(source: Salvage, part: Part) -> None:
    try:
        source.check(part)
    except FileNotFoundError as error:
        source.missing(Path(error.filename))
        source.check(part)
