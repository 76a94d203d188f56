"""Models out of a store: the version that was asked for, as Keras loads it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wandbkeras.errors import NotFoundError, UsageError
from wandbkeras.store.directory import Store
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import ArtifactFile, ArtifactVersion
from wandbkeras.store.source import is_run

_SUFFIXES = (".keras", ".weights.h5", ".h5")  # the longer of two first


def load_model(
    path: str | os.PathLike[str],
    version: str | int = "best",
    *,
    run_id: str | None = None,
    artifact: str | None = None,
    model: Any = None,
    **options: Any,
) -> Any:
    """Return a model that was saved in a run, also of a directory that was carried elsewhere.

    Args:
        path: a run's directory, or a store (then of the run ``run_id``, or its only one).
        version: an alias (``best``, ``latest``, ``epoch_3``, …) or the number of the version among
            those that the run keeps, from 0, from the end if it is negative.
        run_id: which run of a store.
        artifact: the name of the artifact, if several of the run's hold models.
        model: a model built by the same code, into which weights are loaded; a version that holds
            weights alone needs it.
        options: for ``keras.models.load_model``, as ``custom_objects``, ``compile`` and
            ``safe_mode``: a model from elsewhere runs no code of its own unless that is False.

    Raises:
        NotFoundError: there is no such run, or no such version.
        UsageError: an argument is wrong, or one is missing.
        DamagedError: the file isn't what was saved.

    >>> load_model("no-such-directory")
    Traceback (most recent call last):
    wandbkeras.errors.NotFoundError: no-such-directory: no such directory: ...
    """
    if not isinstance(version, (str, int)) or isinstance(version, bool):
        raise UsageError(f"load_model: received version {version!r}; expected an alias or a number")
    run = _run(Path(path), run_id)
    chosen = _version(run, version, artifact)
    name, file = _model_file(chosen)
    if name.endswith(".weights.h5") and model is None:
        raise UsageError(
            f"{run.path}: {chosen.name} ({version}) holds weights alone: pass model=, a model that "
            "was built by the same code"
        )
    blob = run.blob(file.sha256)  # checks its bytes

    import keras

    with tempfile.TemporaryDirectory(prefix="wandbkeras-") as folder:
        # Keras goes by what the name ends in; blobs have none.
        suffix = next(suffix for suffix in _SUFFIXES if name.endswith(suffix))
        link = Path(folder) / f"model{suffix}"
        link.symlink_to(blob.resolve())
        if model is None:
            return keras.models.load_model(link, **options)
        model.load_weights(link, **options)
        return model


def _run(path: Path, run_id: str | None) -> StoredRun:
    if is_run(path):
        run = StoredRun(path)
        if run_id not in (None, run.info.id):
            raise NotFoundError(f"{path}: is the run {run.info.id!r}, not {run_id!r}")
        return run
    store = Store(path)
    if run_id is not None:
        return store.run(run_id)
    paths = store.paths()
    if len(paths) != 1:
        shown = ", ".join(p.name for p in paths[-3:])
        raise UsageError(
            f"{path}: {len(paths)} runs: expected a run's directory, or run_id="
            + (f" (the last: {shown})" if paths else "")
        )
    return StoredRun(paths[0])


def _version(run: StoredRun, version: str | int, artifact: str | None) -> ArtifactVersion:
    """Return the version; as in W&B an alias belongs to the last one that was given it."""
    models: dict[str, list[ArtifactVersion]] = {}
    for held in run.artifacts:
        if held.type == "model" and artifact in (None, held.name):
            models.setdefault(held.name, []).append(held)
    found = {name: one for name, of_one in models.items() if (one := _chosen(of_one, version))}
    if len(found) > 1:
        raise UsageError(
            f"{run.path}: {', '.join(found)} have a version {version!r} each: pass artifact="
        )
    if not found:
        aliases = {
            name: dict.fromkeys(alias for held in of_one for alias in held.aliases)
            for name, of_one in models.items()
        }
        there = "; ".join(f"{name}: {', '.join(given)}" for name, given in aliases.items())
        raise NotFoundError(f"{run.path}: no model {version!r}; there are {there or 'none'}")
    return next(iter(found.values()))


def _chosen(versions: Sequence[ArtifactVersion], version: str | int) -> ArtifactVersion | None:
    if isinstance(version, int):
        return versions[version] if -len(versions) <= version < len(versions) else None
    return next((held for held in reversed(versions) if version in held.aliases), None)


def _model_file(version: ArtifactVersion) -> tuple[str, ArtifactFile]:
    files = {name: file for name, file in version.files.items() if name.endswith(_SUFFIXES)}
    if len(files) != 1:
        raise UsageError(
            f"artifact {version.name}: holds {', '.join(version.files) or 'no file'}; expected one "
            f"file that ends in {', '.join(_SUFFIXES)}"
        )
    ((name, file),) = files.items()
    return name, file
