"""A run as it was when it was opened: its attempts, what they add up to, and how it is.

Nothing here changes a byte of the run, so a read-only mount or a copy does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from wandbkeras.errors import DamagedError
from wandbkeras.store import named_tables
from wandbkeras.store.attempts import AttemptView, added_up, read_writer, spans
from wandbkeras.store.layout import Layout
from wandbkeras.store.process import is_alive
from wandbkeras.store.salvage import Salvage
from wandbkeras.store.schema import (
    ArtifactFile,
    ArtifactVersion,
    RunInfo,
    TableFile,
    read_artifact,
    run_file,
)
from wandbkeras.store.source import Source
from wandbkeras.store.state import RunState
from wandbkeras.store.tables import StoredTable

State = Literal["running", "finished", "failed", "crashed", "preempted"]
_T = TypeVar("_T")


class OpenedRun:
    """What is known of a run of a store without its sealed records: see :class:`StoredRun`."""

    def __init__(self, path: Path | str, *, strict: bool = False) -> None:
        self.path = Path(path)
        self.layout = Layout(self.path)
        self._source = Source(self.layout) if strict else Salvage(self.layout)
        self.info: RunInfo = self._source.info()

    @cached_property
    def attempts(self) -> list[AttemptView]:
        """The attempts that wrote at least one record, in order."""
        return [
            read_writer(self._source, number, writer) for number, writer in self._source.writers()
        ]

    @property
    def state(self) -> State:
        """How the last attempt is: read from its finish record or its heartbeat, never guessed.

        With several writers it is running while one is, and as bad as its worst. One that ended
        otherwise than well after it was marked as preempting is preempted.
        """
        states = [view.state for view in self._last_attempt]
        open_ended = [state for state in states if state.exit_code is None]
        now = time.time()
        if any(is_alive(state.process, state.last_seen, now) for state in open_ended):
            return "running"
        is_whole = not open_ended and bool(states)
        if is_whole and not self.exit_code:
            return "finished"
        if any(state.preempting for state in states):
            return "preempted"
        return "failed" if is_whole else "crashed"

    @property
    def exit_code(self) -> int | None:
        """The exit code of the last attempt, of its worst writer; None while one has none."""
        codes = [view.state.exit_code for view in self._last_attempt]
        if not codes or None in codes:
            return None
        return max((code for code in codes if code is not None), key=abs)

    @property
    def preempting(self) -> bool:
        """Whether the last attempt was told that it is about to be ended."""
        return any(view.state.preempting for view in self._last_attempt)

    @property
    def _last_attempt(self) -> list[AttemptView]:
        """The writers of the last attempt."""
        return [view for view in self.attempts if view.number == self.attempts[-1].number]

    @cached_property
    def folded(self) -> RunState:
        """The attempts' records added up: config, summary, definitions, artifacts, counts."""
        total = added_up(self.attempts)
        total.exit_code = self.exit_code
        total.preempting = self.preempting
        return total

    @property
    def config(self) -> dict[str, Any]:
        return dict(self.folded.config)

    @property
    def summary(self) -> dict[str, Any]:
        return named_tables.without_values(self.folded.summary, self._lost_tables)

    @property
    def damage(self) -> list[str]:
        """What could not be read so far, a line each; what is not asked for is not looked at.

        :func:`wandbkeras.store.verify.verify_run` looks at everything.
        """
        tails = [damage for view in self.attempts for damage in view.tail.damage]
        return [str(damage) for damage in (*self._source.damage, *tails)]

    @property
    def lost(self) -> list[str]:
        """What was lost before the rest was sealed or repaired, a line each."""
        return [str(damage) for view in self.attempts for damage in view.manifest.damage]

    @property
    def lineage(self) -> object:
        """Which attempts and writers there are, and where later ones take over.

        While that stays equal, rows are only added, after those that are settled.
        """
        return self.info, tuple((view.number, upto) for view, upto in spans(self.attempts))

    @property
    def settled_steps(self) -> int | None:
        """The step before which no row can grow or come, should the run go on; None: all of them.

        The open row of each writer may grow, and a writer that is behind may fill up the rows of
        one that is ahead, unless it leaves the history to others.
        """
        limits = []
        for view in self._last_attempt:
            last = view.tail.rows[-1] if view.tail.rows else None
            if last is not None and not last.complete:
                limits.append(last.step)
            elif view.state.beside and view.state.last_step is None:
                continue
            elif len(self._last_attempt) > 1 and view.state.exit_code is None:
                limits.append(
                    (view.state.last_step if view.state.last_step is not None else -1) + 1
                )
        return min(limits, default=None)

    @property
    def artifacts(self) -> list[ArtifactVersion]:
        """The artifact versions that are kept, in the order in which they were logged."""
        return list(self.artifacts_by_manifest.values())

    @cached_property
    def artifacts_by_manifest(self) -> dict[str, ArtifactVersion]:
        """The artifact versions that are kept, by the names of their manifests."""
        found = {name: self._source.artifact(name) for name in self.folded.artifacts}
        return {name: version for name, version in found.items() if version is not None}

    @property
    def dropped_artifacts(self) -> list[ArtifactVersion]:
        """The versions that are no longer kept, whose files may be gone."""
        found = []
        for name in self.folded.dropped_artifacts:
            with suppress(DamagedError, OSError):  # they need not be sound any more
                found.append(read_artifact(self.layout.listed_artifact(name)))
        return found

    @cached_property
    def files(self) -> dict[str, ArtifactFile]:
        """The files that were saved with the run, by their names, each as it was saved last."""
        return {name: run_file(self.path, name, f) for name, f in self.folded.files.items()}

    def blob(self, sha256: str) -> Path:
        """Return the path of a blob; DamagedError if its bytes aren't what was stored."""
        return self._source.blob(sha256)

    @property
    def size(self) -> int:
        """The bytes that the run takes on disk."""
        return self.layout.size()

    def stored_table(self, file: TableFile) -> StoredTable:
        """Return the table that an artifact version of this run names."""
        return StoredTable(self.layout, file)

    @property
    def has_console(self) -> bool:
        """Whether anything that the run printed is recorded."""
        return any(
            view.manifest.has_console
            or self.layout.console_numbers(view.number, view.manifest.writer)
            for view in self.attempts
        )

    def refresh(self) -> None:
        """Forget what was read: the next question is answered by what lies there then."""
        kinds = {name: getattr(type(self), name, None) for name in self.__dict__}
        for name in [name for name, kind in kinds.items() if isinstance(kind, cached_property)]:
            del self.__dict__[name]

    def _settled(self, read: Callable[[], _T]) -> _T:
        """Return what ``read`` gives, asked again if a live writer sealed in between."""
        while True:
            try:
                return read()
            except FileNotFoundError as error:
                seals = [view.manifest.seals for view in self.attempts]
                self.refresh()
                if seals == [view.manifest.seals for view in self.attempts]:
                    self._source.missing(Path(error.filename))

    @property
    def _lost_tables(self) -> set[str]:
        """The paths of the tables that were damaged, and lost in a repair."""
        damage = (damage for view in self.attempts for damage in view.manifest.damage)
        return {d.path.as_posix() for d in damage if d.path.parts[0] == self.layout.tables.name}
