"""Verifying a run: every byte that has a checksum is read and compared, every damage located.

Nothing is changed, and nothing stops at the first damage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wandbkeras.errors import DamagedError
from wandbkeras.store import document
from wandbkeras.store.attempts import AttemptView, read_writer
from wandbkeras.store.cleaned import cleaned_blobs
from wandbkeras.store.damage import Damage
from wandbkeras.store.layout import Layout
from wandbkeras.store.named_tables import NamedTable, in_writer
from wandbkeras.store.parquet import file_sha256
from wandbkeras.store.salvage import Salvage
from wandbkeras.store.schema import ArtifactVersion, TableFile, read_info


@dataclass
class Verification:
    """What was found: ``damage``, its paths within the run, and what it costs.

    ``torn`` are the bytes of last records that a killed process left, or that a living one is
    writing; ``lost`` is damage that was sealed or repaired earlier; ``dropped`` and
    ``dropped_events`` count the rows and events that could not be recorded: none of them is damage.
    ``artifacts`` maps manifests of artifact versions that are not whole to why, ``saved_files`` the
    names of saved files and ``tables`` the paths of tables that rows name likewise. ``files`` and
    ``bytes`` count what was checked.
    """

    damage: list[Damage] = field(default_factory=list)
    torn: int = 0
    lost: list[Damage] = field(default_factory=list)
    dropped: int = 0
    dropped_events: int = 0
    artifacts: dict[str, str] = field(default_factory=dict)
    saved_files: dict[str, str] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    files: int = 0
    bytes: int = 0


def verify_run(path: Path, *, progress: Callable[[str], None] = lambda text: None) -> Verification:
    """Check every file of the run at ``path``; NotFoundError if it is none."""
    return _Verifier(Salvage(Layout(path)), progress).verify()


class _Verifier:
    def __init__(self, source: Salvage, progress: Callable[[str], None]) -> None:
        self.source = source
        self.layout = source.layout
        self.progress = progress
        self.found = Verification()
        self._bad_blobs: dict[str, str] = {}
        self._named_tables: list[NamedTable] = []
        self._checked_tables: dict[TableFile, str | None] = {}
        self._cleaned = cleaned_blobs(source.layout)

    def verify(self) -> Verification:
        self._check_info()
        views = [
            view
            for attempt, writer in self.source.writers()
            if (view := self._checked_writer(attempt, writer)) is not None
        ]
        self._check_blobs()
        self._check_artifacts(views)
        self._check_saved_files(views)
        self._check_tables(views)
        for path in self._documents(self.layout.receipts):
            self._count(path)
            try:
                document.read(path, self.layout.root)
            except DamagedError as error:
                self.source.note_file(path, error, rows=0)
        self.found.damage[:0] = self.source.damage
        return self.found

    def _check_info(self) -> None:
        path = self.layout.info
        self._count(path)
        try:
            read_info(path)
        except FileNotFoundError:
            self.source.note_file(path, "missing", rows=0)
        except DamagedError as error:
            self.source.note_file(path, error, rows=0)

    def _checked_writer(self, attempt: int, writer: int) -> AttemptView | None:
        """Check a writer's manifest, parts and segments, as they are at one moment."""
        try:
            view = self._settled(attempt, writer)
        except DamagedError as error:  # a record that makes no sense, a link, …
            self.source.note_file(self.layout.attempt(attempt), error)
            return None
        found, layout = self.found, self.layout
        found.damage += view.tail.damage
        found.torn += view.tail.torn
        found.lost += view.manifest.damage
        found.dropped += view.state.dropped
        found.dropped_events += view.state.dropped_events
        numbers = layout.segment_numbers(attempt, writer)
        self._count(layout.manifest(attempt, writer))
        for number in (number for number in numbers if number >= view.manifest.segments):
            self._count(layout.journal(attempt, writer, number))
        for part in view.manifest.parts:
            self._count(layout.root / part.name)
        for number in layout.console_numbers(attempt, writer):
            self._count(layout.console(attempt, writer, number))
        return view

    def _settled(self, attempt: int, writer: int) -> AttemptView:
        view = read_writer(self.source, attempt, writer)
        while True:
            try:
                for part in view.manifest.parts:
                    self.source.check(part)
                if not view.manifest.has_console:
                    self.source.console(attempt, writer)
                self._named_tables += in_writer(self.source, view.manifest, view.tail)
                return view
            except FileNotFoundError as error:
                seals = view.manifest.seals
                view = read_writer(self.source, attempt, writer)
                if view.manifest.seals == seals:
                    self.source.missing(Path(error.filename))

    def _check_blobs(self) -> None:
        for path in self._files(self.layout.blobs, depth=1):
            if path.name.startswith("."):
                continue
            self._count(path)
            self.progress(f"{path.name[:12]}… ({path.stat().st_size} bytes)")
            digest = file_sha256(path, self.layout.root)
            if digest != path.name or path.parent.name != digest[:2]:
                self._bad_blobs[path.name] = "damaged"
                self.source.note_file(path, f"its SHA-256 is {digest}, not its name", rows=0)

    def _check_artifacts(self, views: list[AttemptView]) -> None:
        dropped = {name for view in views for name in view.state.dropped_artifacts}
        logged = [name for view in views for name in view.state.artifacts if name not in dropped]
        there = [path.name for path in self._documents(self.layout.artifacts)]
        for name in dict.fromkeys((*logged, *there)):
            version = self._artifact(name)
            self._count(self.layout.artifacts / name)
            if version is None:
                self.found.artifacts[name] = f"artifact {name}: its manifest is damaged or missing"
            elif name in logged:
                self._check_contents(name, version)

    def _artifact(self, name: str) -> ArtifactVersion | None:
        try:
            return self.source.artifact(name)
        except DamagedError as error:  # made to be none
            self.source.note_file(self.layout.artifacts / Path(name).name, error, rows=0)
            return None

    def _check_contents(self, name: str, version: ArtifactVersion) -> None:
        for path, file in version.files.items():
            self._check_named(file.sha256, file.size, f"{path!r} of artifact {version.name!r}")
            if why := self._bad_blobs.get(file.sha256):
                self.found.artifacts[name] = f"artifact {version.name!r}: {path!r} is {why}"
        for path, table in version.tables.items():
            if why := self._check_table(table, f"table {path!r} of artifact {version.name!r}"):
                self.found.artifacts[name] = f"artifact {version.name!r}: table {path!r} is {why}"

    def _check_saved_files(self, views: list[AttemptView]) -> None:
        for name, file in [item for view in views for item in view.state.files.items()]:
            self._check_named(file["sha256"], file["size"], f"the saved file {name!r}")
            if why := self._bad_blobs.get(file["sha256"]):
                self.found.saved_files[name] = f"saved file {name!r}: {why}"

    def _check_tables(self, views: list[AttemptView]) -> None:
        """Check the tables of all rows, superseded ones too, but for those known to be lost."""
        lost = {damage.path.as_posix() for view in views for damage in view.manifest.damage}
        for table in self._named_tables:
            what = f"table {table.key!r} of step {table.step}"
            if table.file.path not in lost and (why := self._check_table(table.file, what)):
                self.found.tables[table.file.path] = f"{what}: {why}"

    def _check_table(self, table: TableFile, what: str) -> str | None:
        """Compare a table's bytes; return what is wrong with them."""
        if table not in self._checked_tables:
            self._checked_tables[table] = self._look_at_table(table, what)
        return self._checked_tables[table]

    def _look_at_table(self, table: TableFile, what: str) -> str | None:
        path = self.layout.listed_table(table.path)
        self.progress(f"{table.path} ({table.size} bytes)")
        try:
            if file_sha256(path, self.layout.root) == table.sha256:
                self._count(path)
                return None
        except FileNotFoundError:
            self.source.note(Damage(Path(table.path), 0, table.size, f"missing: {what}", 0))
            return "missing"
        except (OSError, DamagedError) as error:
            self.source.note_file(path, str(error), f"{what} is lost", rows=0)
            return "unreadable"
        self.source.note_file(path, "the SHA-256 does not match", f"{what} is lost", rows=0)
        return "damaged"

    def _check_named(self, sha256: str, size: int, what: str) -> None:
        path = self.layout.blob(sha256)
        if self.layout.has_link(path):
            self._bad_blobs[sha256] = "a link"
        elif sha256 not in self._bad_blobs and sha256 not in self._cleaned and not path.is_file():
            self._bad_blobs[sha256] = "missing"
            relative = path.relative_to(self.layout.root)
            self.source.note(Damage(relative, 0, size, f"missing: {what}", 0))

    def _documents(self, directory: Path) -> Iterator[Path]:
        return (path for path in self._files(directory) if path.suffix == ".json")

    def _files(self, directory: Path, depth: int = 0) -> Iterator[Path]:
        """Yield the plain files, ``depth`` directories down; a link is none of ours, and noted."""
        for path in sorted(directory.iterdir()) if directory.is_dir() else ():
            if path.is_symlink():
                self.source.note_file(path, "a link: the files of a run lie in it", rows=0)
            elif depth and path.is_dir():
                yield from self._files(path, depth - 1)
            elif path.is_file():
                yield path

    def _count(self, path: Path) -> None:
        if path.is_file():
            self.found.files += 1
            self.found.bytes += path.stat().st_size
