"""The callback's tests on each backend of Keras and at the lowest versions that we support.

Exit status 1 if they fail anywhere. Needs a package index and some gigabytes: no part of CI.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What a backend may change: the callback, the values that it logs, the models that it saves.
TESTS = ("test_callbacks_*.py", "test_data_types*.py", "test_models.py", "test_recording_values.py")
# Neither a backend nor a version of Keras.
TOOLS = (
    "pytest",
    "hypothesis",
    "graphql-core",
    "starlette",
    "uvicorn",
    "pandas",
    "pillow",
    "scikit-learn",
)


@dataclass(frozen=True)
class Environment:
    """What is installed beside the package, and the backend that Keras runs on."""

    packages: tuple[str, ...]
    backend: str = "tensorflow"
    constraints: tuple[str, ...] = ()


def lowest() -> tuple[str, ...]:
    """Return the lower bounds of ``pyproject.toml`` as pins."""
    text = (ROOT / "pyproject.toml").read_text()
    own = re.search(r"^dependencies = \[(.*?)^\]", text, re.M | re.S)
    extra = re.search(r"^tensorflow = \[(.*?)\]", text, re.M | re.S)
    assert own is not None and extra is not None
    bounds = re.findall(r'"([\w-]+)>=([\d.]+)"', own[1] + extra[1])
    return tuple(f"{name}=={version}.*" for name, version in bounds)


ENVIRONMENTS = {
    "newest": Environment(("keras", "tensorflow", "tf_keras")),
    "lowest": Environment(("keras", "tensorflow", "tf_keras"), constraints=lowest()),
    "jax": Environment(("keras", "jax"), backend="jax"),
    "torch": Environment(("keras", "torch"), backend="torch"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="*", metavar="NAME", help=", ".join(ENVIRONMENTS))
    names: Sequence[str] = parser.parse_args().name or tuple(ENVIRONMENTS)
    if unknown := sorted(set(names) - set(ENVIRONMENTS)):
        parser.error(f"unknown: {', '.join(unknown)}; expected {', '.join(ENVIRONMENTS)}")
    codes = {name: check(name, ENVIRONMENTS[name]) for name in names}
    for name, code in codes.items():
        print(f"{name}: {'passed' if code == 0 else f'FAILED (pytest ended with {code})'}")
    return int(any(codes.values()))


def check(name: str, environment: Environment) -> int:
    """Run the tests in an environment; return pytest's exit status."""
    print(f"\n== {name}", flush=True)
    python = prepare(ROOT / ".matrix" / name, environment)
    env = {**os.environ, "KERAS_BACKEND": environment.backend}
    # Not file by file: what is named is collected, also what `conftest.py` leaves out.
    chosen = f"python_files={' '.join(TESTS)}"
    command = [
        python,
        "-m",
        "pytest",
        "-q",
        "-m",
        marks(environment.backend),
        "-o",
        chosen,
        "tests",
    ]
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode


def marks(backend: str) -> str:
    """Return which tests to run: those that are marked for TensorFlow need it installed."""
    return "" if backend == "tensorflow" else "not tensorflow"


def prepare(folder: Path, environment: Environment) -> Path:
    """Return the Python of an environment, made unless it is there as it should be."""
    python = folder / "bin" / "python"
    stamp = folder / "installed"
    wanted = "\n".join([*environment.packages, *environment.constraints, *TOOLS])
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    venv.create(folder, with_pip=True, clear=True)
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(environment.constraints))
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "--constraint", constraints, "--editable", ROOT, *environment.packages, *TOOLS],
        check=True,
    )
    stamp.write_text(wanted)
    return python


if __name__ == "__main__":
    sys.exit(main())
