"""Other backends than TensorFlow: a short set of the callback's tests, in a process.

`scripts/test-matrix` runs the whole set, on Torch and on the lowest versions too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
SHORT = ("metrics", "best", "histograms", "ranks_jax")


def test_the_callback_records_on_jax() -> None:
    """Metrics, best values, histograms of weights, two processes as one run."""
    files = [TESTS / f"test_callbacks_{name}.py" for name in SHORT]
    command = [sys.executable, "-m", "pytest", "-m", "not tensorflow", *files]
    done = subprocess.run(
        command,
        cwd=TESTS.parent,
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
