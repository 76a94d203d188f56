"""The manifest: the document that says which parts of a writer are valid, and what they replace."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypedDict

from wandbkeras.errors import DamagedError
from wandbkeras.store import document
from wandbkeras.store.checks import Count, convert
from wandbkeras.store.damage import Damage
from wandbkeras.store.layout import Layout
from wandbkeras.store.parquet import Part
from wandbkeras.store.schema import FORMAT_VERSION, check_version
from wandbkeras.store.state import RunState

MANIFEST_FORMAT = "wandbkeras-manifest"


@dataclass(frozen=True)
class Manifest:
    """What one writer has sealed, in ``seals`` times: the segments before ``segments``."""

    attempt: int
    writer: int
    seals: int = 0
    segments: int = 0
    parts: tuple[Part, ...] = ()
    damage: tuple[Damage, ...] = ()
    state: RunState = field(default_factory=RunState)

    @property
    def has_console(self) -> bool:
        """Whether what the writer's process printed is sealed, all of it."""
        return any(part.stream == "console" for part in self.parts)

    def to_document(self) -> dict[str, Any]:
        return {
            "format": MANIFEST_FORMAT,
            "version": FORMAT_VERSION,
            "attempt": self.attempt,
            "writer": self.writer,
            "seals": self.seals,
            "segments": self.segments,
            "parts": [vars(part) for part in self.parts],
            "damage": [{**vars(d), "path": d.path.as_posix()} for d in self.damage],
            "state": self.state.to_document(),
        }


def read_manifest(layout: Layout, attempt: int, writer: int) -> Manifest:
    """Return the writer's manifest, an empty one before its first sealing."""
    path = layout.manifest(attempt, writer)
    try:
        members = document.read(path, layout.root)
    except FileNotFoundError:
        return Manifest(attempt, writer)
    check_version(path, members, MANIFEST_FORMAT)
    if (members.get("attempt"), members.get("writer")) != (attempt, writer):
        raise DamagedError(f"{path}: misplaced: it is of attempt {members.get('attempt')!r}")
    try:
        given = convert(members, _Members, dec_hook=lambda _, name: layout.listed_damage(name))
        for part in given["parts"]:
            layout.check_part_name(part.name)
        return Manifest(
            attempt=attempt,
            writer=writer,
            seals=given["seals"],
            segments=given["segments"],
            parts=given["parts"],
            damage=given["damage"],
            state=RunState.from_document(given["state"]),
        )
    except ValueError as error:
        raise DamagedError(f"{path}: not a manifest ({error})") from error


class _Members(TypedDict):
    seals: Count
    segments: Count
    parts: tuple[Part, ...]
    damage: tuple[Damage, ...]
    state: dict[str, Any]
