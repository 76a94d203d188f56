"""Comparing what a run holds with what a server says it holds: every difference, in words."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from typing import Any

from wandbkeras.store.schema import Row
from wandbkeras.store.state import Event
from wandbkeras.sync.artifacts import Artifact
from wandbkeras.sync.content import CLIENTS_SUMMARY, Content
from wandbkeras.sync.remote import RemoteArtifact, RemoteRun

# So many samples of system metrics a server gives whoever does not ask for a number.
_ALL_SAMPLES = 500
_PLAIN = frozenset({int, float, str})
_NON_FINITE = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}


def same(expected: Any, found: Any) -> bool:
    """Whether two values are equal as W&B keeps them.

    JSON has one kind of number, so 1 is 1.0; NaN is NaN; the server may give non-finite numbers as
    the strings ``NaN``, ``Infinity`` and ``-Infinity``.

    >>> same(1, 1.0), same(float("nan"), "NaN"), same(2**60 + 1, float(2**60)), same(True, 1)
    (True, True, False, False)
    """
    if isinstance(expected, Mapping):
        if not isinstance(found, Mapping) or expected.keys() != found.keys():
            return False
        return all(same(value, found[key]) for key, value in expected.items())
    if isinstance(expected, (list, tuple)):
        if not isinstance(found, (list, tuple)) or len(expected) != len(found):
            return False
        return all(map(same, expected, found))
    if isinstance(expected, bool) or isinstance(found, bool):
        return expected is found
    if isinstance(expected, float) and isinstance(found, str):
        return found in _NON_FINITE and same(expected, float(_NON_FINITE[found]))
    if isinstance(expected, (int, float)) and isinstance(found, (int, float)):
        return bool(expected == found or (expected != expected and found != found))
    return bool(expected == found)


def row_differences(
    expected: Iterable[Row], found: Iterable[Mapping[str, Any]], first: int = 0
) -> Iterator[tuple[int, str]]:
    """Yield ``(row number, what differs)`` for each row that is missing, superfluous or differs.

    ``first`` is the number of the first row.
    """
    for number, (row, remote) in enumerate(zip_longest(expected, found), first):
        if row is None:
            yield number, f"row {number} (_step {remote['_step']}) is not of this run"
        elif remote is None:
            yield number, f"row {number} (_step {row.step}) is missing"
        else:
            whole = {
                **row.values,
                "_step": row.step,
                "_timestamp": row.timestamp,
                "_runtime": row.runtime,
            }
            if _are_plainly_same(whole, remote):
                continue
            # History that the server has exported reads back with None for what was not logged.
            if text := _mapping_difference(_logged(whole), _logged(remote)):
                yield number, f"row {number} (_step {row.step}): {text}"


def _are_plainly_same(expected: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether rows of finite numbers and texts, as nearly all are, are the same: told at once."""
    return (
        expected == found
        # To Python True is 1, to W&B it isn't.
        and _PLAIN.issuperset(map(type, expected.values()))
        and _PLAIN.issuperset(map(type, found.values()))
    )


def _logged(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None}


def differences(content: Content, remote: RemoteRun, sent: Collection[Artifact] = ()) -> list[str]:
    """Return what differs beside the rows; empty if the server holds all of it.

    Aliases are looked for on the artifact versions just ``sent``: later versions, those of other
    runs too, take them over.
    """
    found = []
    if remote.state not in content.remote_states:
        found.append(f"state: expected {content.remote_states[0]}, found {remote.state}")
    config = _mapping_difference(content.config, remote.config)
    summary = {k: v for k, v in remote.summary.items() if k not in CLIENTS_SUMMARY}
    summary_text = _mapping_difference(content.summary, summary)
    found += [f"config: {config}"] if config else []
    found += [f"summary: {summary_text}"] if summary_text else []
    duration = (remote.summary.get("_wandb") or {}).get("runtime")
    if duration != int(content.runtime):
        found.append(f"duration: expected {int(content.runtime)} s, found {duration!r}")
    found += _info_differences(content, remote)
    labels = _mapping_difference(content.mask_labels, remote.mask_labels)
    found += [f"class labels of masks: {labels}"] if labels else []
    matched = match_artifacts(content, remote)
    links = _linked(content, matched)
    for artifact, version in matched:
        found += artifact_differences(
            artifact, version, with_aliases=artifact in sent, links=links[artifact.identity]
        )
    found += file_differences(content, remote).values()
    return found


def file_differences(content: Content, remote: RemoteRun) -> dict[str, str]:
    """Return in what the run's files, by their names, differ from those that the server holds."""
    found = {}
    for name, file in content.files.items():
        held = remote.files.get(name)
        if held is None:
            found[name] = f"file {name!r:.80} is missing"
        elif (held.size, held.md5) != (file.size, file.md5):
            found[name] = (
                f"file {name!r:.80}: expected {file.size} bytes with the MD5 {file.md5}, "
                f"found {held.size} with {held.md5 or 'none'}"
            )
    return found


def missing_samples(content: Content, remote: RemoteRun) -> Sequence[Event]:
    """Return all system metrics if the server lacks the last of them, else none.

    Unlike rows, W&B's client counts them from line 0 on each time, so those that the server holds
    are sent again, to the lines where they stand.
    """
    last = max(map(_microseconds, (s.timestamp for s in content.samples)), default=None)
    return () if last is None or last in _by_time(remote) else content.samples


def sample_differences(content: Content, remote: RemoteRun) -> Iterator[str]:
    """Yield in what the system metrics differ from those that the server gives.

    It may give a choice of many; the last one is always looked for.
    """
    held = _by_time(remote)
    expected = {_microseconds(sample.timestamp): sample.body for sample in content.samples}
    missing = len(expected.keys() - held.keys())
    if missing and (missing_samples(content, remote) or len(held) < _ALL_SAMPLES):
        yield f"system metrics: {missing} of {len(expected)} samples are missing"
    for time in expected.keys() & held.keys():
        wire = {f"system.{name}": value for name, value in expected[time].items()}
        given = {name: value for name, value in held[time].items() if name.startswith("system.")}
        if text := _mapping_difference(wire, given):
            yield f"system metrics at {time / 1e6:.6f}: {text}"
            return


def _by_time(remote: RemoteRun) -> dict[int, Mapping[str, Any]]:
    """Return the samples that a server gives by their times in microseconds."""
    return {round(s["_timestamp"] * 1e6): s for s in remote.samples if s.get("_timestamp")}


def match_artifacts(
    content: Content, remote: RemoteRun
) -> list[tuple[Artifact, RemoteArtifact | None]]:
    """Pair each artifact version with the one that the server holds for it, None if it lacks it.

    The server calls the version that came last the latest. So its last versions must be the run's
    first ones, in order, and those after them are lacking, even if it holds them further back.
    """
    held: dict[str, list[RemoteArtifact]] = {}
    for version in sorted(remote.artifacts, key=lambda a: int(a.version.removeprefix("v"))):
        held.setdefault(version.name, []).append(version)
    recorded: dict[str, list[Artifact]] = {}
    for artifact in content.artifacts:
        recorded.setdefault(artifact.version.name, []).append(artifact)
    found: dict[str, RemoteArtifact] = {}
    for name, artifacts in recorded.items():
        identities = [artifact.identity for artifact in artifacts]
        there = [v for v in held.get(name, []) if v.digest not in content.dropped_digests]
        last = _overlap(there, [artifact.digest for artifact in artifacts])
        found |= dict(zip(identities, last, strict=False))
    return [(artifact, found.get(artifact.identity)) for artifact in content.artifacts]


def _overlap(held: Sequence[RemoteArtifact], digests: Sequence[str]) -> Sequence[RemoteArtifact]:
    """Return the longest end of ``held`` whose digests are the first of ``digests``."""
    for start in range(max(0, len(held) - len(digests)), len(held)):
        end = held[start:]
        if [version.digest for version in end] == list(digests[: len(end)]):
            return end
    return ()


def _linked(
    content: Content, matched: Sequence[tuple[Artifact, RemoteArtifact | None]]
) -> dict[str, dict[str, str]]:
    """Return by version the URIs, by their paths, of what it links to."""
    ids = {artifact.identity: "" if held is None else held.uri_id for artifact, held in matched}
    return {
        artifact.identity: {
            path: f"wandb-artifact://{ids[place.identity]}/{place.path}"
            for path, link in artifact.links.items()
            for place in [content.versions.place(link)]
        }
        for artifact, _ in matched
    }


def artifact_differences(
    artifact: Artifact,
    version: RemoteArtifact | None,
    *,
    with_aliases: bool,
    links: Mapping[str, str] | None = None,
) -> list[str]:
    """Return in what ``version``, as the server holds it, differs from what was recorded.

    ``links`` are the URIs of what it links to, by their paths.
    """
    label = f"artifact {artifact.version.name} ({', '.join(artifact.version.aliases)})"
    if version is None:
        return [f"{label} is missing"]
    checks = {
        "type": (artifact.version.type, version.type),
        "files": (dict(artifact.files), dict(version.files)),
        "references": (
            {**{path: r.ref for path, r in artifact.version.references.items()}, **(links or {})},
            dict(version.references),
        ),
        "used": (artifact.version.used or version.used, version.used),
        "metadata": (dict(artifact.version.metadata), dict(version.metadata)),
        "description": (artifact.version.description or None, version.description),
    }
    found = [
        f"{label}: {what}: expected {expected!r}, found {actual!r}"
        for what, (expected, actual) in checks.items()
        if not same(expected, actual)
    ]
    if with_aliases and (lacking := sorted(set(artifact.aliases) - set(version.aliases))):
        found.append(f"{label}: lacks the aliases {', '.join(lacking)}")
    return found


def _info_differences(content: Content, remote: RemoteRun) -> list[str]:
    info = content.info
    pairs = {
        "name": (info.name, remote.name if info.name else None),
        "group": (info.group, remote.group),
        "job type": (info.job_type, remote.job_type),
        "tags": (sorted(info.tags), sorted(remote.tags)),
        "notes": (info.notes, remote.notes),
        "host": (info.host, remote.host),
        "start time": (
            _microseconds(content.started),
            None if remote.started is None else _microseconds(remote.started),
        ),
    }
    return [
        f"{what}: expected {expected!r}, found {found!r}"
        for what, (expected, found) in pairs.items()
        if (expected or None) != (found or None)
    ]


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)


def _mapping_difference(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Return the first few keys that differ, in words; empty if none does."""
    texts = (
        f"{key}: expected {expected.get(key, 'nothing')!r:.80}, "
        f"found {found.get(key, 'nothing')!r:.80}"
        for key in dict.fromkeys((*expected, *found))
        if key not in expected or key not in found or not same(expected[key], found[key])
    )
    return "; ".join(islice(texts, 3))
