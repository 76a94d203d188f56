"""What was read from disk is what the format allows, or a ValueError says what isn't.

A checksum proves nothing of a stranger's file: whoever wrote it made the checksum, too. So types,
ranges and depth are checked once, where bytes become values, and nothing behind that asks again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict, TypeVar

import msgspec
from msgspec import Meta

from wandbkeras.store.table_names import TABLE_PATTERN

# How deep values nest; what a reader takes leaves room for what they are wrapped in. Documented, as
# the rest, in docs/format.md, "Limits".
MAX_VALUE_DEPTH = 32
MAX_DEPTH = 64
# The values of metrics that name a table: of one, of a list of images, of an image alone.
TABLE, IMAGES, IMAGE = "table/parquet", "images/parquet", "image/parquet"
TABLE_TYPES = frozenset({TABLE, IMAGES, IMAGE})
# Metrics have any name but those of the columns that the store writes itself.
RESERVED = frozenset({"_step", "_timestamp", "_runtime", "_attempt", "_null"})

# Numbers that a protobuf message, a date and a column hold.
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
ExitCode = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Seconds = Annotated[float, Meta(ge=0, lt=2**31)]
Instant = Annotated[float, Meta(gt=-1e15, lt=1e15)]
Date = Annotated[float, Meta(ge=0, lt=253_402_300_800)]  # to the end of the year 9999
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
TableName = Annotated[str, Meta(pattern=rf"^{TABLE_PATTERN}\Z")]
Md5 = Annotated[str, Meta(pattern="^[0-9a-f]{32}$", max_length=32)]

_T = TypeVar("_T")
_HARMLESS = frozenset({float, bool, type(None)})


def convert(value: Any, kind: type[_T], **options: Any) -> _T:
    """Return ``value`` as a ``kind``, member by member; ValueError if one is of another type."""
    try:
        converted: _T = msgspec.convert(value, kind, **options)
        return converted
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def is_instant(value: Any) -> bool:
    """Whether ``value`` is an :data:`Instant`; an integer is the equal number."""
    return type(value) in (float, int) and -1e15 < value < 1e15


def readable(value: Any) -> str:
    """Return the ``str`` of ``value``, as text that a file can hold.

    >>> readable("x\\udcff.py")
    'x?.py'
    """
    return str(value).encode(errors="replace").decode()


def check_value(value: Any, depth: int = MAX_DEPTH) -> None:
    """Raise ValueError unless ``value`` is one that the format knows, not nested too deeply."""
    kind = type(value)
    if kind is int:
        if not -(2**63) <= value < 2**63:
            raise ValueError("an integer that does not fit 64 bits with a sign")
    elif kind is str:
        _check_text(value)
    elif kind is dict:
        _check_names(value)
        _check_items(value.values(), depth)
    elif kind is list:
        _check_items(value, depth)
    elif kind not in _HARMLESS:
        raise ValueError(f"a value of type {kind.__name__}")


def _check_items(items: Collection[Any], depth: int) -> None:
    if _HARMLESS.issuperset(map(type, items)):
        return
    if not depth:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    for item in items:
        kind = type(item)
        if kind is str:  # as most are
            _check_text(item)
        elif kind not in _HARMLESS:
            check_value(item, depth - 1)


def _check_names(names: Iterable[Any]) -> None:
    """Check the keys of a mapping."""
    try:
        _check_text("".join(names))
    except TypeError as error:
        raise ValueError("a mapping whose keys aren't strings") from error


def _check_text(text: str) -> None:
    if not text.isascii():
        text.encode()  # a lone surrogate is a UnicodeEncodeError, which is a ValueError


def check_row(values: Mapping[str, Any], known: Sequence[str] = ()) -> Sequence[str]:
    """Raise ValueError unless ``values`` is what was logged at a step; return its names.

    Names that are ``known`` to be right, mostly those of the row before, are not checked again.
    """
    names = list(values)
    if names != known:
        _check_names(names)
        if not RESERVED.isdisjoint(names):
            raise ValueError("a metric with the name of an index column")
    if not _HARMLESS.issuperset(map(type, values.values())):
        _check_items(values.values(), MAX_DEPTH)
        for value in values.values():
            if type(value) is dict:
                check_typed(value)
    return names


def check_typed(value: Mapping[str, Any]) -> None:
    """Raise ValueError if the value of a metric says that it is what it isn't."""
    kind = value.get("_type")
    if kind == "histogram":
        _check_histogram(value)
    elif isinstance(kind, str) and kind in TABLE_TYPES:
        convert(value, _Table)


def _check_histogram(value: Mapping[str, Any]) -> None:
    histogram = convert(value, _Histogram)
    if len(histogram.bins) != len(histogram.values) + 1:
        raise ValueError("a histogram whose bins don't match its counts")


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text; ValueError if it is none, or not one of the format."""
    text = text.decode() if isinstance(text, bytes) else text
    try:
        value = _decode_json(text)
    except RecursionError as error:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep") from error
    # A text with so few brackets and no escaped code points has nothing else to be checked.
    if "\\u" in text or text.count("[") + text.count("{") > MAX_DEPTH:
        check_value(value)
    return value


def _json_integer(digits: str) -> int:
    value = int(digits)
    if not -(2**63) <= value < 2**63:
        raise ValueError("an integer that does not fit 64 bits with a sign")
    return value


_decode_json = json.JSONDecoder(parse_int=_json_integer).decode


class _Stats(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    count: int | None = None
    nan: int | None = None
    posinf: int | None = None
    neginf: int | None = None
    zero: int | None = None
    min: float | None = None
    max: float | None = None
    mean: float | None = None
    std: float | None = None


class _Histogram(msgspec.Struct, frozen=True):
    values: list[float]
    bins: list[float]
    stats: _Stats | None = None


class _Table(msgspec.Struct, frozen=True):
    path: TableName
    sha256: Sha256
    size: Count
    rows: Count


class Process(TypedDict, total=False):
    """Who writes, and where it goes on: what a segment's header and an attempt's event say."""

    host: str | None
    boot: str | None
    pids: str | None
    pid: int | None
    started: int | None
    program: str | None
    python: str | None
    launch: str | None
    from_step: Count | None
    run: dict[str, Any] | None
    resume: _Resume | None


class _Resume(TypedDict):
    config: dict[str, Any]
    summary: dict[str, Any]
    metrics: dict[str, Any]


class _Change(TypedDict, total=False):
    update: dict[str, Any]
    remove: list[str]


class _Manifest(TypedDict):
    manifest: str


class _File(TypedDict):
    path: str
    sha256: Sha256
    md5: Md5
    size: Count


class _Dropped(TypedDict):
    rows: Count
    events: Count


class _Alert(TypedDict):
    title: str
    text: str
    level: Literal["INFO", "WARN", "ERROR"]
    wait_duration: Seconds


class _Preempting(TypedDict, total=False):
    signal: str


class _End(TypedDict):
    exit_code: ExitCode
    runtime: Seconds


class _Finish(_End, total=False):
    traceback: str


_BODIES: Mapping[str, Any] = {
    "attempt": Process,
    "rollback": Process,
    "config": _Change,
    "summary": _Change,
    "artifact": _Manifest,
    "artifact_dropped": _Manifest,
    "file": _File,
    "dropped": _Dropped,
    "alert": _Alert,
    "system": dict[str, float],
    "preempting": _Preempting,
    "finish": _Finish,
}


def check_body(kind: str, body: Mapping[str, Any]) -> None:
    """Raise ValueError unless ``body`` has what an event of this kind must have."""
    if kind in _BODIES:
        convert(body, _BODIES[kind])
