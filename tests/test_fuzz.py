"""Whatever a run holds, reading it ends with what is in it or with an error of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import audited, hostile, strategies
from tests.fuzzing import TARGETS, Run, digest, frame, payloads
from wandbkeras.store.journal import MAGIC

FOUND = Path(__file__).parent / "fuzzed"
# What could lead astray, or have no room where it goes.
_odd_texts = st.sampled_from(["../x", "/etc/passwd", "", ".", "\0", "é" * 200, "*", "histogram"])
_odd_numbers = st.sampled_from([-1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 1e300, -0.0])
_scalars = strategies.scalars | _odd_texts | _odd_numbers
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


def changed(draw: st.DrawFn, value: Any, others: st.SearchStrategy[Any]) -> Any:
    """Return a JSON value with one thing in it replaced, removed or added."""
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(sorted(value)))
        match draw(st.sampled_from(["within", "within", "within", "removed", "added"])):
            case "within":
                return {**value, key: changed(draw, value[key], others)}
            case "removed":
                return {name: item for name, item in value.items() if name != key}
            case _:
                return {**value, draw(st.text(max_size=4) | _odd_texts): draw(others)}
    if isinstance(value, list) and value and draw(st.integers(0, 5)):
        at = draw(st.integers(0, len(value) - 1))
        inner = draw(st.sampled_from([[changed(draw, value[at], others)], [], [value[at]] * 2]))
        return [*value[:at], *inner, *value[at + 1 :]]
    return draw(others)


few = settings(max_examples=settings().max_examples // 3)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    threads = pa.cpu_count()
    pa.set_cpu_count(1)  # they take longer to wake than so small a file to read
    yield Run(tmp_path_factory.mktemp("fuzz"))
    pa.set_cpu_count(threads)


@pytest.mark.parametrize("name", TARGETS)
def test_what_fuzzing_begins_with_is_sound(run: Run, name: str) -> None:
    """Else all that follows would be refused for the same reason."""
    for content in run.seeds(name):
        run.put(name, content)
        audited.strictly(run.layout.root)


@pytest.mark.parametrize("name", ["run", "manifest", "artifact", "receipt"])
@few
@given(data=st.data())
def test_any_document_is_read_or_refused(run: Run, name: str, data: st.DataObject) -> None:
    """Members that are missing, too many, or of other types and values, with a good checksum."""
    members = json.loads(run.seeds(name)[0])
    del members["checksum"]
    for _ in range(data.draw(st.integers(1, 3))):
        members = changed(data.draw, members, _values)
    run.judge(name, json.dumps(members, indent=2).removesuffix("\n}").encode())


@pytest.mark.parametrize("name", ["name", "description"])
@few
@given(data=st.data())
def test_any_words_about_a_table_are_read_or_refused(
    run: Run, name: str, data: st.DataObject
) -> None:
    """The value of a row that names a table, and what the table says of its columns."""
    said = json.loads(run.seeds(name)[0])
    for _ in range(data.draw(st.integers(0, 3))):
        said = changed(data.draw, said, _values)
    run.judge(name, json.dumps(said).encode())


@given(data=st.data())
def test_any_records_are_read_or_refused(run: Run, data: st.DataObject) -> None:
    """Records of any shape, in any order, in frames that are sound."""
    (segment,) = run.seeds("journal")
    records: Any = list(map(msgspec.msgpack.decode, payloads(segment)))
    packable = _values.filter(_fits)
    for _ in range(data.draw(st.integers(1, 3))):
        records = changed(data.draw, records, packable)
    if data.draw(st.booleans()) and isinstance(records, list):
        records = data.draw(st.permutations(records))
    packed = map(msgspec.msgpack.encode, records if isinstance(records, list) else [records])
    run.judge("journal", MAGIC + b"".join(map(frame, packed)))


def _fits(value: Any) -> bool:
    """Whether MessagePack has a form for a value."""
    try:
        msgspec.msgpack.encode(value)
    except (OverflowError, UnicodeEncodeError):
        return False
    return True


@pytest.mark.parametrize("name", TARGETS)
@few
@given(data=st.data())
def test_any_bytes_are_read_or_refused(run: Run, name: str, data: st.DataObject) -> None:
    """Stretches of a file that are other bytes, are gone or are there twice."""
    content = data.draw(st.sampled_from(run.seeds(name)))
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(content)))
        end = min(len(content), begin + data.draw(st.integers(0, 8)))
        other = data.draw(st.binary(max_size=8) | st.just(content[begin:end] * 2))
        content = content[:begin] + other + content[end:]
    run.judge(name, content)


_ARRAYS = {
    pa.int64(): strategies.integers,
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.float64(): strategies.floats,
    pa.bool_(): st.booleans(),
    pa.string(): strategies.texts | _odd_texts | st.sampled_from(["{}", "[1]", '{"a": NaN}']),
    pa.binary(): st.binary(max_size=4),
    pa.timestamp("us"): st.integers(0, 2**40),
    pa.list_(pa.float64()): st.lists(strategies.floats, max_size=3),
    pa.list_(pa.string()): st.lists(strategies.texts, max_size=3),
    pa.struct({"a": pa.int64()}): st.builds(lambda a: {"a": a}, strategies.integers),
    pa.null(): st.none(),
}


@pytest.mark.parametrize("stream", [*hostile.PARTS, "table"])
@few
@given(data=st.data())
def test_any_table_is_read_or_refused(run: Run, stream: str, data: st.DataObject) -> None:
    """Columns of any types and names, with nulls anywhere, written in any way that Parquet has."""
    table = pq.read_table(pa.BufferReader(run.seeds(stream)[0]))
    table = table if stream == "table" else table.replace_schema_metadata(None)
    rows = len(table)
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(table.column_names or ["x"]) | _odd_texts)
        kind = data.draw(st.sampled_from([*_ARRAYS, *table.schema.types[:1]]))
        cells = st.none() | _ARRAYS.get(kind, st.none())
        column = pa.array(data.draw(st.lists(cells, min_size=rows, max_size=rows)), kind)
        is_json = data.draw(st.booleans())
        field = pa.field(name, kind, metadata={"wandbkeras.encoding": "json"} if is_json else None)
        if name in table.column_names and data.draw(st.booleans()):
            table = table.set_column(table.column_names.index(name), field, column)
        elif data.draw(st.booleans()):
            table = table.append_column(field, column)
        elif name in table.column_names:
            table = table.remove_column(table.column_names.index(name))
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression=data.draw(st.sampled_from(["none", "zstd", "snappy"])),
        use_dictionary=data.draw(st.booleans()),
        data_page_version=data.draw(st.sampled_from(["1.0", "2.0"])),
        row_group_size=data.draw(st.sampled_from([1, 4, 100])),
        store_schema=data.draw(st.booleans()),
    )
    run.judge(stream, sink.getvalue().to_pybytes())


@pytest.mark.parametrize("name", sorted(path.name for path in FOUND.glob("*-*")))
def test_what_a_fuzzer_found_is_read_or_refused(run: Run, name: str) -> None:
    """Each case that ``scripts/fuzz`` or Hypothesis once found, which is named by its content."""
    target, _, said = name.partition("-")
    content = (FOUND / name).read_bytes()
    assert digest(content) == said
    run.judge(target, content)
