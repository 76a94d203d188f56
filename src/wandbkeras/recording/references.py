"""References: what an artifact points to by a URI instead of holding it.

Names and digests are those that ``wandb.Artifact.add_reference`` gives without asking a bucket or a
web server: recording needs no network.
"""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from urllib.parse import unquote, urlparse

from wandbkeras.errors import UsageError
from wandbkeras.store.schema import Reference

_BUCKETS = ("s3", "gs")
_AZURE = ".blob.core.windows.net"
# They name artifacts of a server, which is not there.
_NEEDS_SERVER = ("wandb-artifact", "wandb-client-artifact")


def references_of(uri: str, name: str | None, checksum: bool) -> dict[str, Reference]:
    """Return what ``uri`` adds to an artifact, by path: of a directory each file below it.

    A ``file`` is read and hashed with ``checksum``; of all else, and without it, the digest stands
    for the URI, and a new version comes only of a new URI.
    """
    scheme = urlparse(uri).scheme
    if not scheme or scheme in _NEEDS_SERVER:
        raise UsageError(
            f"reference {uri!r:.200}: expected a URI such as s3://bucket/key or file:///path"
        )
    if scheme == "file":
        return _local_references(uri, name, checksum)
    path = name or _default_name(uri)
    if not path:
        raise UsageError(f"reference {uri!r:.200}: it has no name of its own: pass name=")
    if scheme in _BUCKETS and uri == f"{scheme}://{urlparse(uri).netloc}":
        uri += "/"  # a whole bucket, as wandb writes it
    return {path: Reference(uri, digest=uri)}


def _default_name(uri: str) -> str:
    parts = urlparse(uri)
    key = parts.path.lstrip("/")
    if parts.scheme in _BUCKETS:
        return key or parts.netloc
    if parts.scheme == "https" and parts.netloc.endswith(_AZURE):
        return key.partition("/")[2]
    return os.path.basename(uri) if parts.scheme in ("http", "https") else ""  # noqa: PTH119


def _local_references(uri: str, name: str | None, checksum: bool) -> dict[str, Reference]:
    path = Path(unquote(urlparse(uri).path))
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        relative = {file.relative_to(path).as_posix(): file for file in files}
        return {
            f"{name}/{below}" if name else below: _local(f"{uri.rstrip('/')}/{below}", f, checksum)
            for below, f in relative.items()
        }
    if not path.is_file():
        raise UsageError(f"reference {uri!r:.200}: {path} is neither a file nor a directory")
    return {name or path.name: _local(uri, path, checksum)}


def _local(uri: str, path: Path, checksum: bool) -> Reference:
    try:
        digest = _file_md5(path) if checksum else _text_md5(path.resolve().as_uri())
        size = path.stat().st_size
    except OSError as error:
        raise UsageError(f"reference {uri!r:.200}: can't be read ({error})") from error
    return Reference(uri, digest=digest, size=size)


def _file_md5(path: Path) -> str:
    md5 = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            md5.update(chunk)
    return base64.b64encode(md5.digest()).decode()


def _text_md5(text: str) -> str:
    return base64.b64encode(hashlib.md5(text.encode(), usedforsecurity=False).digest()).decode()
