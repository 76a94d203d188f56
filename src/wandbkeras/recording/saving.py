"""Which files ``Run.save`` means: wandb's rules for patterns, base paths and names."""

from __future__ import annotations

import glob
import os
import sys
from pathlib import Path
from typing import Literal, get_args

from wandbkeras.errors import UsageError
from wandbkeras.recording.values import checked_text
from wandbkeras.store.schema import is_run_file_name

Policy = Literal["live", "now", "end"]


def checked_policy(policy: str) -> Policy:
    """Return the policy; UsageError if it is none of wandb's."""
    if policy not in get_args(Policy):
        raise UsageError(f"save: received policy {policy!r}; expected live, now or end")
    return policy  # type: ignore[return-value]


def matching_files(
    pattern: str | os.PathLike[str], base_path: str | os.PathLike[str] | None, *, expand: bool
) -> dict[str, Path]:
    """Return the files that match now, by their names in the run: their paths below the base.

    The base of a relative pattern is the working directory; of an absolute one the directory above
    the last, so that one level is kept.
    """
    text = os.fspath(pattern)
    if "://" in text:
        raise UsageError(f"save: {text!r:.200} is a URI: add it to an artifact with add_reference")
    path = _absolute(text)
    above = "." if not Path(text).is_absolute() else path.parent.parent
    base = _absolute(above if base_path is None else base_path)
    if base not in path.parents:
        raise UsageError(f"save: {text!r:.200} is not below the base path {str(base)!r}")
    matches = sorted(glob.glob(str(path))) if expand else [str(path)]  # noqa: PTH207
    found = {_name(Path(match), base): Path(match) for match in matches if Path(match).is_file()}
    if not found:
        print(f"wandbkeras: save: no file matches {text!r:.200}", file=sys.stderr)  # noqa: T201
    return found


def _absolute(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - a link is a name like any other


def _name(path: Path, base: Path) -> str:
    name = checked_text(path.relative_to(base).as_posix(), "save: a file's name")
    if not is_run_file_name(name):
        raise UsageError(
            f"save: the name {name!r} is taken by W&B's own client, or is none: pass a base_path "
            "that puts the file into a directory"
        )
    return name
