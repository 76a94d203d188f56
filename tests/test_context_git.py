"""What is said of a git repository, by real ones."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from wandbkeras.context.git import DIFF_BYTES, find_repository


def git(directory: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=directory, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit."""
    root = tmp_path / "code"
    root.mkdir()
    git(root, "init", "-q")
    (root / "train.py").write_text("lr = 1\n")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return root


def test_a_clean_repository_has_a_commit_and_no_diff(repository: Path) -> None:
    """From a directory below, too; without a remote there is none."""
    (repository / "below").mkdir()
    found = find_repository(repository / "below", with_diff=True)
    assert found is not None
    assert found.root.samefile(repository)
    assert found.git.commit == git(repository, "rev-parse", "HEAD").strip()
    assert (found.git.remote, found.git.dirty, found.diff) == (None, False, None)


@pytest.mark.parametrize("staged", [False, True])
def test_what_is_not_committed_is_a_patch(repository: Path, staged: bool) -> None:
    """The diff, staged or not, makes of the commit what was there; a file nobody added is out."""
    (repository / "train.py").write_text("lr = 2 # é\n")
    (repository / "secret.txt").write_text("not added")
    if staged:
        git(repository, "add", "train.py")
    found = find_repository(repository, with_diff=True)
    assert found is not None
    assert found.git.dirty
    assert found.diff is not None
    assert b"secret" not in found.diff
    git(repository, "reset", "-q", "--hard")
    patch = repository.parent / "diff.patch"
    patch.write_bytes(found.diff)
    git(repository, "apply", str(patch))
    assert (repository / "train.py").read_text() == "lr = 2 # é\n"


def test_a_patch_can_be_applied_whatever_git_shows_its_user(repository: Path) -> None:
    """Neither colours, prefixes nor a program that makes text of files get into it."""
    (repository / ".gitattributes").write_text("*.py diff=shown\n")
    for name, value in (
        ("color.ui", "always"),
        ("diff.noprefix", "true"),
        ("diff.shown.textconv", "wc"),
        ("diff.external", "false"),
    ):
        git(repository, "config", name, value)
    (repository / "train.py").write_text("lr = 3\n")
    found = find_repository(repository, with_diff=True)
    assert found is not None and found.diff is not None
    assert found.diff.splitlines()[-4:] == [
        b"+++ b/train.py", b"@@ -1 +1 @@", b"-lr = 1", b"+lr = 3",
    ]  # fmt: skip


def test_a_checked_out_commit_and_a_submodule_are_repositories(repository: Path) -> None:
    """A detached HEAD has its commit; a program in a submodule is of that."""
    outer = repository.parent / "outer"
    outer.mkdir()
    git(outer, "init", "-q")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(repository))
    git(outer, "commit", "-q", "-m", "outer")
    git(repository, "checkout", "-q", "--detach")
    first = git(repository, "rev-parse", "HEAD").strip()
    for directory in (repository, outer / "code"):
        found = find_repository(directory, with_diff=True)
        assert found is not None and found.root.samefile(directory)
        assert (found.git.commit, found.git.dirty) == (first, False)
    (outer / "code" / "train.py").write_text("lr = 4\n")
    whole = find_repository(outer, with_diff=True)
    assert whole is not None and whole.diff is not None
    assert b"+lr = 4" in whole.diff


def test_no_code_is_taken_where_that_is_not_wanted(repository: Path) -> None:
    """Without the diff, that there was one is still said."""
    (repository / "train.py").write_text("lr = 2\n")
    found = find_repository(repository, with_diff=False)
    assert found is not None
    assert (found.git.dirty, found.diff) == (True, None)


def test_credentials_of_the_remote_stay_where_they_are(repository: Path) -> None:
    """Neither user nor token of a URL is in what is recorded."""
    git(repository, "remote", "add", "origin", "https://me:token@example.com/a/b.git")
    found = find_repository(repository, with_diff=True)
    assert found is not None
    assert found.git.remote == "https://example.com/a/b.git"


def test_where_there_is_no_repository_or_no_git_there_is_none(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory outside, a repository without a commit, and a machine without git."""
    assert find_repository(tmp_path, with_diff=True) is None
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "-q")
    empty = find_repository(tmp_path / "empty", with_diff=True)
    assert empty is not None
    assert (empty.git.commit, empty.diff) == (None, None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_repository(repository, with_diff=True) is None


def test_a_diff_that_is_too_large_is_not_taken_and_counted(repository: Path) -> None:
    """More than 10 MB are data that was committed."""
    (repository / "train.py").write_text("x" * (DIFF_BYTES + 1))
    found = find_repository(repository, with_diff=True)
    assert found is not None and found.diff is None
    assert found.is_too_large
