"""The artifact versions of a run as W&B knows them: those that were logged, and those of tables.

A table that a row names is a version of an artifact of its own there, as the client makes it.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from wandbkeras.errors import DamagedError
from wandbkeras.store.names import MAX_NAME
from wandbkeras.store.schema import ArtifactFile, ArtifactVersion
from wandbkeras.store.tables import StoredTable
from wandbkeras.sync.media import base64_digest, safe_path
from wandbkeras.sync.tables import RenderedTable, part_name

_HEADER = b"wandb-artifact-manifest-v1\n"
_TABLE_TYPE = "run_table"
# How a version names one that the server doesn't have yet: by the id that the client gave it.
CLIENT_URI = "wandb-client-artifact://"


@dataclass(frozen=True)
class Artifact:
    """An artifact version with the digests by which W&B knows it.

    ``identity`` tells it from the other versions of the run, at every sync. ``files`` maps paths to
    base64 MD5s, and to W&B's digests those of references and links. ``made`` are the files that are
    made of its tables. ``links`` are the paths that are tables of other versions, by their paths in
    the run, or files of other imported versions, by their URIs. ``aliases`` are those that it ends
    with: a later version of the run takes them over.
    """

    version: ArtifactVersion
    identity: str
    digest: str
    files: Mapping[str, str]
    aliases: tuple[str, ...] = ()
    made: Mapping[str, ArtifactFile] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where something is in W&B: the artifact's name, the version's identity, the path in it."""

    name: str
    identity: str
    path: str


class Artifacts:
    """The versions of a run, in order, and where its tables are among them.

    ``versions`` are those logged, by their manifests, and ``tables`` those that rows name;
    ``rendered`` gives what W&B holds of a table by its path in the run, ``imported`` the ids that
    imported versions have there, by their manifests.
    """

    def __init__(
        self,
        run_id: str,
        versions: Mapping[str, ArtifactVersion],
        tables: Sequence[StoredTable],
        rendered: Callable[[str], RenderedTable],
        imported: Mapping[str, str],
    ) -> None:
        self._rendered = rendered
        self._imported = imported
        self._places: dict[str, Place] = {}
        # The name and the identity of imported versions by their ids in W&B.
        self._targets: dict[str, tuple[str, str]] = {}
        self.all: list[Artifact] = []
        of_tables = ((table.file.path, _of_table(run_id, table)) for table in tables)
        self._add([*versions.items(), *of_tables])

    def place(self, link: str) -> Place:
        """Return where a table of the run is, or a file that a URI names."""
        if link in self._places:
            return self._places[link]
        client_id, path = _parts(link)
        return Place(*self._targets[client_id], path)

    def digest(self, version: ArtifactVersion) -> str:
        """Return the digest of any version, also of one that the run no longer keeps."""
        return self._artifact("", version).digest

    def waves(self, artifacts: Iterable[Artifact]) -> list[list[Artifact]]:
        """Return versions in groups to be sent one after the other.

        A version comes after those that it links to, and after those before it of its name; what is
        in one group the client sends in any order, but for versions of one name.
        """
        waves: list[list[Artifact]] = []
        left = list(artifacts)
        while left:
            waiting = {artifact.identity for artifact in left}
            blocked: set[str] = set()
            ready = []
            for artifact in left:
                targets = {self.place(link).identity for link in artifact.links.values()}
                if targets & waiting or artifact.version.name in blocked:
                    blocked.add(artifact.version.name)
                else:
                    ready.append(artifact)
            if not ready:
                raise DamagedError(f"{left[0].version.name}: tables that link to one another")
            waves.append(ready)
            left = [artifact for artifact in left if artifact not in ready]
        return waves

    def _add(self, versions: Iterable[tuple[str, ArtifactVersion]]) -> None:
        """Add versions; one whose content equals the version before it is that version."""
        latest: dict[str, int] = {}
        holders: dict[tuple[str, str], int] = {}
        for identity, version in versions:
            artifact = self._artifact(identity, version)
            index = latest.get(version.name)
            if index is None or self.all[index].digest != artifact.digest:
                index = latest[version.name] = len(self.all)
                self.all.append(artifact)
            holders.update(dict.fromkeys(((version.name, a) for a in version.aliases), index))
            target = (version.name, self.all[index].identity)
            if identity in self._imported:
                self._targets[self._imported[identity]] = target
            for name, table in version.tables.items():
                self._places[table.path] = Place(*target, part_name(name))
        self.all = [
            replace(artifact, aliases=tuple(a for (_, a), i in holders.items() if i == index))
            for index, artifact in enumerate(self.all)
        ]

    def _artifact(self, identity: str, version: ArtifactVersion) -> Artifact:
        own = {table.path for table in version.tables.values()}
        made: dict[str, ArtifactFile] = {}
        links: dict[str, str] = {}
        for name, table in version.tables.items():
            rendered = self._rendered(table.path)
            made |= rendered.entries(name)
            for path, other in rendered.links.items():
                if other in own:  # no version can refer to itself
                    made[path] = self._rendered(other).parts[0]
                else:
                    links[path] = other
        files = file_digests(version)
        files |= {path: base64_digest(file.md5) for path, file in made.items()}
        files |= {p: base64_digest(self._rendered(t).parts[0].md5) for p, t in links.items()}
        for path, reference in version.references.items():
            if _parts(reference.ref)[0] in self._targets:
                links[path] = reference.ref
        return Artifact(version, identity, artifact_digest(files), files, made=made, links=links)


def _parts(uri: str) -> tuple[str, str]:
    """Return the client's id and the path that a URI of its consists of; nothing of another one.

    >>> _parts("wandb-client-artifact://8a3f/t.table.json"), _parts("https://example.org/a")
    (('8a3f', 't.table.json'), ('', ''))
    """
    if not uri.startswith(CLIENT_URI):
        return "", ""
    client_id, _, path = uri.removeprefix(CLIENT_URI).partition("/")
    return client_id, path


def needed_bytes(artifacts: Iterable[Artifact], files: Iterable[ArtifactFile]) -> int:
    """Return the bytes of artifact versions and files, each content counted once."""
    needed = [*files]
    for artifact in artifacts:
        needed += (*artifact.version.files.values(), *artifact.made.values())
    return sum({file.sha256: file.size for file in needed}.values())


def file_digests(version: ArtifactVersion) -> dict[str, str]:
    """Return the digest by which W&B knows each file and each reference of a version."""
    files = {path: base64_digest(file.md5) for path, file in version.files.items()}
    return files | {path: reference.digest for path, reference in version.references.items()}


def artifact_digest(files: Mapping[str, str]) -> str:
    """Return the digest by which W&B knows an artifact with these base64 MD5s.

    Source: ``ArtifactManifestV1.digest`` of wandb: the MD5 over a header and ``path:digest`` lines.

    >>> artifact_digest({"a.txt": "1B2M2Y8AsgTpgAmY7PhCfg=="})
    'e1e2f5ddfb42e46c3380a5bda27bf008'
    """
    digest = hashlib.md5(_HEADER, usedforsecurity=False)
    for path, file_digest in sorted(files.items()):
        digest.update(f"{path}:{file_digest}\n".encode())
    return digest.hexdigest()


def table_artifact_name(run_id: str, key: str) -> str:
    """Return the name of the artifact of tables logged under ``key``.

    As the client makes it: what W&B refuses goes, and a checksum tells it from others.

    >>> table_artifact_name("k3j9x2ab", "t"), table_artifact_name("k3j9x2ab", "val/t")
    ('run-k3j9x2ab-t', 'run-k3j9x2ab-valt-ERMdLg')
    """
    name = f"run-{run_id}-{key}"
    allowed = re.sub(r"[^a-zA-Z0-9_\-.]+", "", name)
    if allowed == name and len(name) <= MAX_NAME:
        return name
    checksum = base64.urlsafe_b64encode(zlib.crc32(name.encode()).to_bytes(4, "big"))
    suffix = f"-{checksum.decode().rstrip('=')}"
    return allowed[: MAX_NAME - len(suffix)] + suffix


def _of_table(run_id: str, table: StoredTable) -> ArtifactVersion:
    assert table.key is not None
    return ArtifactVersion(
        name=table_artifact_name(run_id, table.key),
        type=_TABLE_TYPE,
        aliases=("latest",),
        tables={safe_path(table.key): table.file},
        step=table.step,
    )
