"""History exported to Parquet, as the hosted server does some minutes after a run ended.

How the real export types a column is not known; here a column is int64, double, string or boolean
when all its values are, a struct or list when Arrow finds one for them, and JSON text otherwise.
"""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def parquet_bytes(lines: list[str]) -> bytes:
    """One row a line, one column a key."""
    rows = [json.loads(line) for line in lines]
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def _column(values: list[Any]) -> Any:
    try:
        return pa.array(values, from_pandas=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        pass
    if all(isinstance(value, (int, float, type(None))) for value in values):
        return pa.array([None if value is None else float(value) for value in values])
    return pa.array([None if value is None else json.dumps(value) for value in values])
