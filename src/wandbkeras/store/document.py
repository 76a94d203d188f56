"""Checksummed JSON documents: ``run.json``, manifests and receipts.

A document is one JSON object, two-space indented, whose last member ``checksum`` is the CRC-32 of
the bytes before it, closed as if it were not there. Reading compares bytes, not values: any flipped
byte shows, in white space too, and a writer in another language need not print numbers as we do.
Non-finite numbers are the bare tokens ``NaN``, ``Infinity`` and ``-Infinity``, as in W&B's files.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wandbkeras.errors import DamagedError, UnsupportedValueError
from wandbkeras.store.checks import parse_json
from wandbkeras.store.disk import Disk, write_file
from wandbkeras.store.plain_files import read_file

# A larger one is not read; documented in docs/format.md, "Limits".
MAX_BYTES = 64 << 20

_END = b"\n}\n"
_TAIL = re.compile(rb',\n  "checksum": "crc32:([0-9a-f]{8})"\n\}\n')
_TAIL_BYTES = 35


def encode(members: Mapping[str, Any]) -> bytes:
    """Return the document's bytes.

    >>> print(encode({"id": "k3j9x2ab"}).decode(), end="")
    {
      "id": "k3j9x2ab",
      "checksum": "crc32:c1064eaf"
    }
    """
    body = json.dumps(members, indent=2, ensure_ascii=False).encode().removesuffix(b"\n}")
    return body + b',\n  "checksum": "crc32:%08x"' % zlib.crc32(body + _END) + _END


def decode(data: bytes, path: Path) -> dict[str, Any]:
    """Return the document's members; DamagedError, naming ``path``, if it isn't as written."""
    tail = _TAIL.fullmatch(data, max(0, len(data) - _TAIL_BYTES))
    if tail is None:
        raise DamagedError(f"{path}: no document: it does not end with a checksum")
    if zlib.crc32(data[: tail.start()] + _END) != int(tail[1], 16):
        raise DamagedError(f"{path}: the checksum does not match: bytes were changed after writing")
    try:
        members: dict[str, Any] = parse_json(data)
        del members["checksum"]
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedError(f"{path}: not a JSON document ({error})") from error
    return members


def read(path: Path, root: Path | None = None) -> dict[str, Any]:
    """Return the members of the document at ``path`` in the run at ``root``.

    Without ``root``, its own directory is taken for one that links may lead to.
    """
    return decode(read_file(path, MAX_BYTES, root), path)


def write(disk: Disk, path: Path, members: Mapping[str, Any]) -> None:
    """Write the document at ``path`` atomically and durably.

    UnsupportedValueError if nobody would read it again.
    """
    data = encode(members)
    if len(data) > MAX_BYTES:
        raise UnsupportedValueError(
            f"{path.name}: a document of {len(data)} bytes: expected {MAX_BYTES} at most"
        )
    write_file(disk, path, data)
