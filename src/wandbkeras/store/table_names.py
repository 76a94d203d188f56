"""The names of the files of tables, below a run's directory."""

from __future__ import annotations

import hashlib
import re
from typing import Any

_FOLDER = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
_N = r"(?:[0-9]{3}|[1-9][0-9]{3,4})"
# Of one key the step, then the writer and the number of its tables: no name is used twice.
TABLE_PATTERN = (
    rf"tables/{_FOLDER}/(?:[0-9]{{8}}|[1-9][0-9]{{8,18}})-{_N}-{_N}-"
    r"(?:[0-9]{4}|[1-9][0-9]{4,8})\.parquet"
)


def table_folder(key: str) -> str:
    """Return the name of the directory of the tables that are logged under ``key``.

    It is for people: two keys may share one, in capitals and small letters on some file systems.

    >>> table_folder("examples"), table_folder("val/examples")
    ('examples', 'val-examples-542502af')
    """
    if re.fullmatch(_FOLDER, key):
        return key
    readable = re.sub(r"[^A-Za-z0-9_.-]", "-", key)[:54]
    start = "" if re.match(r"[A-Za-z0-9_]", readable) else "_"
    return f"{start}{readable}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def is_table_name(name: Any) -> bool:
    """Whether ``name`` is the path of a table within a run.

    >>> is_table_name("tables/examples/00000012-000-000-0003.parquet"), is_table_name("../x")
    (True, False)
    """
    return isinstance(name, str) and re.fullmatch(TABLE_PATTERN, name) is not None


def table_step(name: str) -> int:
    """Return the step that the path of a table names."""
    return int(name.rpartition("/")[2].partition("-")[0])


def table_file_name(step: int, attempt: int, writer: int, number: int) -> str:
    """Return the name of a writer's table of this number.

    >>> table_file_name(12, 0, 0, 3)
    '00000012-000-000-0003.parquet'
    """
    return f"{step:08d}-{attempt:03d}-{writer:03d}-{number:04d}.parquet"
