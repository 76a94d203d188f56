"""The git repository of a program: which commit, from where, and what is not committed."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from wandbkeras.store.checks import readable
from wandbkeras.store.environment import Git

_SECONDS = 20.0
# More is data that was committed, not code.
DIFF_BYTES = 10_000_000
# Whatever is configured for people to read, it can be applied.
_AS_A_PATCH = (
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--submodule=diff",
)
_USER = re.compile(r"^([a-z][a-z0-9+.-]*://)[^/@]*@", re.IGNORECASE)


@dataclass(frozen=True)
class Repository:
    """``root`` is its directory; ``diff`` what is not committed, None if nothing is.

    Or if it has more than :data:`DIFF_BYTES`: then it ``is_too_large``.
    """

    root: Path
    git: Git
    diff: bytes | None = None
    is_too_large: bool = False


def find_repository(directory: Path, *, with_diff: bool) -> Repository | None:
    """Return the repository that holds ``directory``; None if none does, or there is no git."""
    top = _git(directory, "rev-parse", "--show-toplevel")
    if not top:
        return None
    root = Path(os.fsdecode(top.rstrip(b"\n")))
    commit = _text(_git(root, "rev-parse", "--verify", "--quiet", "HEAD"))
    remote = _text(_git(root, "config", "--get", "remote.origin.url"))
    status = _git(root, "status", "--porcelain", "--untracked-files=no")
    dirty = None if status is None else bool(status)
    diff = None
    if with_diff and dirty and commit:
        diff = _git(root, "diff", *_AS_A_PATCH, "HEAD")
    git = Git(commit=commit, remote=remote and without_credentials(remote), dirty=dirty)
    if len(diff or b"") > DIFF_BYTES:
        return Repository(root, git, is_too_large=True)
    return Repository(root, git, diff or None)


def without_credentials(url: str) -> str:
    """Return a remote's URL without the user and the password in it.

    >>> without_credentials("https://me:token@example.com/a/b.git")
    'https://example.com/a/b.git'
    >>> without_credentials("git@example.com:a/b.git")
    'git@example.com:a/b.git'
    """
    return _USER.sub(r"\1", url)


def _git(directory: Path, *arguments: str) -> bytes | None:
    """Return what git prints, at most a byte more than a diff may have; None if it fails."""
    # Reading takes no lock, and starts no program that the repository names.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", *arguments]
    try:
        git = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None
    patience = threading.Timer(_SECONDS, git.kill)
    patience.daemon = True
    with git:
        patience.start()
        assert git.stdout is not None
        printed = git.stdout.read(DIFF_BYTES + 1)
        is_too_large = len(printed) > DIFF_BYTES
        if is_too_large:  # data, perhaps more than there is memory
            git.kill()
    patience.cancel()
    return printed if git.returncode == 0 or is_too_large else None


def _text(output: bytes | None) -> str | None:
    return readable(os.fsdecode(output).strip()) or None if output else None
