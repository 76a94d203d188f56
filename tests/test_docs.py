"""The documents: what they show runs, what they table is true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.process import LoopbackServer
from wandbkeras import errors

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
# What the examples take for granted: a model and data.
PRELUDE = """
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
from pathlib import Path
import keras, numpy as np, wandbkeras
keras.utils.set_random_seed(0)
x, y = np.random.rand(64, 4).astype("float32"), np.arange(64) % 2
xv, yv = x, y
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, activation="sigmoid")])
model.compile("sgd", "binary_crossentropy", metrics=["accuracy", keras.metrics.AUC(name="auc")])
run_id = None
"""
FOLLOW = "run_id = run.id if 'run' in globals() and run else run_id\n"


def python_blocks(path: Path) -> list[str]:
    return BLOCK.findall(path.read_text())


# That of docs/hpc.md runs as a job in test_docs_hpc.py.
EXAMPLES = [path for path in DOCUMENTS if python_blocks(path) and path.name != "hpc.md"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_run(path: Path, tmp_path: Path) -> None:
    """Every Python example of the documents runs as it stands, in order."""
    script = PRELUDE + "".join(block + FOLLOW for block in python_blocks(path))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert list((tmp_path / "runs").glob("run-*/run.json"))


def test_readme_commands_run(tmp_path: Path, wandb_server: LoopbackServer) -> None:
    """`wandbkeras ls runs` and `wandbkeras sync runs`, as the README shows them, succeed."""
    record = "import wandbkeras\nwith wandbkeras.init(project='p') as run: run.log({'loss': 1})"
    subprocess.run([sys.executable, "-c", record], cwd=tmp_path, check=True)
    lines = re.findall(r"^    (wandbkeras .*?)(?:\s+#.*)?$", (ROOT / "README.md").read_text(), re.M)
    assert lines == ["wandbkeras ls runs", "wandbkeras sync runs"]
    program = Path(sys.executable).with_name("wandbkeras")
    for line in lines:
        subprocess.run(
            [program, *line.split()[1:]],
            cwd=tmp_path,
            env=wandb_server.environ(tmp_path / "home"),
            check=True,
        )


def test_every_exit_code_is_tabled() -> None:
    """The exit codes of the error classes are exactly those that docs/scripting.md tables."""
    text = (ROOT / "docs" / "scripting.md").read_text()
    tabled = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.M)}
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Exception)]
    assert tabled == {0, 70, 130} | {c.exit_code for c in classes}


def test_links_lead_somewhere() -> None:
    """Every relative link of the documents names a file that is there."""
    for path in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_commands_of_the_readme_are_there_and_executable() -> None:
    """`scripts/demo` and `scripts/test` are programs, and CI runs the latter and nothing else."""
    for name in ("scripts/demo", "scripts/test", ".ci/run"):
        assert os.access(ROOT / name, os.X_OK), name
    commands = [
        line
        for line in (ROOT / ".ci" / "run").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert commands[-1] == "exec scripts/test"


def test_the_demo_shows_what_was_verified() -> None:
    """`scripts/demo` records, lists, reads with pandas, syncs, and a second sync sends nothing."""
    done = subprocess.run(
        [sys.executable, "scripts/demo.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "verified: 29 rows, 5 artifact versions, 1 file, " in done.stdout
    assert "nothing to send: 29 rows, 5 artifact versions, 1 file, verified" in done.stdout
