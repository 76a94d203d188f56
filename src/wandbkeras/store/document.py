"""Checksummed JSON documents: ``run.json``, manifests and receipts.

A document is one JSON object written in one way only (two-space indentation, ``\\n``, UTF-8, keys
in their given order) whose last member ``checksum`` is the CRC-32 of the document written without
it. Reading writes it again and compares: any flipped byte shows, in white space too.
Non-finite numbers are the bare tokens ``NaN``, ``Infinity`` and ``-Infinity``, as in W&B's files.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wandbkeras.errors import DamagedError
from wandbkeras.store.disk import Disk, write_file


def encode(members: Mapping[str, Any]) -> bytes:
    """Return the document's bytes.

    >>> print(encode({"id": "k3j9x2ab"}).decode(), end="")
    {
      "id": "k3j9x2ab",
      "checksum": "crc32:c1064eaf"
    }
    """
    plain = {key: value for key, value in members.items() if key != "checksum"}
    checksum = f"crc32:{zlib.crc32(_dump(plain)):08x}"
    return _dump({**plain, "checksum": checksum})


def decode(data: bytes, path: Path) -> dict[str, Any]:
    """Return the document's members; DamagedError, naming ``path``, if it isn't as written."""
    try:
        members: dict[str, Any] = json.loads(data)
        as_written = isinstance(members, dict) and encode(members) == data
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path}: not a JSON document ({error})") from error
    if not as_written:
        raise DamagedError(f"{path}: the checksum does not match: bytes were changed after writing")
    del members["checksum"]
    return members


def read(path: Path) -> dict[str, Any]:
    """Return the members of the document at ``path``."""
    return decode(path.read_bytes(), path)


def write(disk: Disk, path: Path, members: Mapping[str, Any]) -> None:
    """Write the document at ``path`` atomically and durably."""
    write_file(disk, path, encode(members))


def _dump(members: Mapping[str, Any]) -> bytes:
    return (json.dumps(members, indent=2, ensure_ascii=False) + "\n").encode()
