"""Values that W&B holds as files of the run: the file of each, and what stands in its place.

The store keeps such a value as plain data, or its bytes as a blob. Its file is made when it is
synced, the same each time, so what has arrived is known by size and MD5 like any other file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wandbkeras.store.schema import GRAPH, HISTOGRAM, ArtifactFile


@dataclass(frozen=True)
class MadeFile(ArtifactFile):
    """A file of the run that no blob holds: ``data`` was made of a value."""

    data: bytes


@dataclass(frozen=True)
class Rendered:
    """What W&B holds of a value, and the files of the run that it names."""

    value: Any
    files: Mapping[str, ArtifactFile] = field(default_factory=dict)


def rendered(value: Any, key: str, step: int | str) -> Rendered:
    """Return the value of metric ``key`` as W&B holds it; ``step`` is ``summary`` in a summary.

    A histogram there has counts and edges, nothing else.

    >>> graph = {"_type": "graph", "format": "keras", "nodes": [], "edges": []}
    >>> rendered(graph, "graph", "summary").value["path"]
    'media/graph/graph_summary_5b324a51209c50688eaf.graph.json'
    """
    kind = value.get("_type") if isinstance(value, dict) else None
    if kind == HISTOGRAM:
        return Rendered({name: value[name] for name in ("_type", "values", "bins")})
    if kind == GRAPH:
        content = {name: item for name, item in value.items() if name != "_type"}
        # As wandb's client writes it: not escaped, without spaces.
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        file = made_file(text.encode())
        return _one_file("graph-file", media_path("graph", key, step, file, ".graph.json"), file)
    return Rendered(value)


def made_file(data: bytes) -> MadeFile:
    """Return a file of these bytes."""
    return MadeFile(
        sha256=hashlib.sha256(data).hexdigest(),
        md5=hashlib.md5(data, usedforsecurity=False).hexdigest(),
        size=len(data),
        data=data,
    )


def base64_digest(md5: str) -> str:
    """Return an MD5 in hexadecimal as W&B's manifests have it.

    >>> base64_digest("d41d8cd98f00b204e9800998ecf8427e")
    '1B2M2Y8AsgTpgAmY7PhCfg=='
    """
    return base64.b64encode(bytes.fromhex(md5)).decode()


def media_path(folder: str, key: str, step: int | str, file: ArtifactFile, suffix: str) -> str:
    """Return the name that W&B's client gives to the file of a value, below ``media``.

    Slashes of the key make folders, as in wandb; what could lead out of them does not.

    >>> media_path("graph", "../a//b", 3, made_file(b""), ".json")
    'media/graph/_/a/_/b_3_e3b0c44298fc1c149afb.json'
    """
    return f"media/{folder}/{safe_path(key)}_{step}_{file.sha256[:20]}{suffix}"


def safe_path(key: str) -> str:
    """Return a key as a path that stays below where it begins, the same if it is one."""
    parts = [
        "_" if part in ("", ".", "..") else re.sub(r"[\x00-\x1f\x7f\\]", "_", part)
        for part in key.split("/")
    ]
    return "/".join(parts)


def _one_file(kind: str, path: str, file: ArtifactFile) -> Rendered:
    reference = {"_type": kind, "sha256": file.sha256, "size": file.size, "path": path}
    return Rendered(reference, {path: file})
