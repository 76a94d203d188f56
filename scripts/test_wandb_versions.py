"""The tests of sync with the newest wandb and with the lower bound of ``pyproject.toml``.

Exit status 1 if they fail with any. Needs a package index: no part of CI. The environments have no
Keras, so that sync is tested as it is used: on a machine that only carries runs.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from test_matrix import ROOT, Environment, prepare

# All that reads what wandb writes, writes what it reads, or asks it.
TESTS = ("test_sync_*.py", "test_cli_sync.py", "test_server.py")
# These record with Keras, or compare with wandb's callbacks.
WITH_KERAS = ("test_sync_keras.py", "test_sync_as_wandb_keras.py")
PACKAGES = ("pandas", "pillow", "polars", "duckdb")


def lower_bound() -> str:
    """Return the oldest version that ``pyproject.toml`` allows.

    >>> re.fullmatch(r"[0-9]+[.][0-9.]+", lower_bound()) is not None
    True
    """
    text = (ROOT / "pyproject.toml").read_text()
    found = re.search(r'"wandb>=([\d.]+)"', text)
    assert found is not None
    return found[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", nargs="*", help="newest, lowest (both by default), or 0.31.0")
    names: Sequence[str] = parser.parse_args().version or ("newest", "lowest")
    codes: dict[str, int] = {}
    for name in names:
        python = prepare(ROOT / ".matrix" / f"wandb-{name}", environment(name))
        version = installed(python)
        if version in codes:
            print(f"\n== {name}: wandb {version}, tested already", flush=True)
            continue
        print(f"\n== {name}: wandb {version}", flush=True)
        codes[version] = check(python)
    for version, code in codes.items():
        print(f"wandb {version}: {'passed' if code == 0 else f'FAILED (pytest ended with {code})'}")
    return int(any(codes.values()))


def environment(name: str) -> Environment:
    """Return what is installed: the newest wandb, or the newest patch of a version."""
    version = {"newest": "", "lowest": f"=={lower_bound()}.*"}.get(name, f"=={name}")
    return Environment((*PACKAGES, f"wandb{version}"))


def installed(python: Path) -> str:
    """Return the version of wandb in an environment."""
    command = [python, "-c", "import wandb; print(wandb.__version__)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def check(python: Path) -> int:
    """Run the tests in an environment; return pytest's exit status."""
    found = {path for pattern in TESTS for path in (ROOT / "tests").glob(pattern)}
    tests = sorted(path for path in found if path.name not in WITH_KERAS)
    return subprocess.run([python, "-m", "pytest", "-q", *tests], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
