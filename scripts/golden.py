"""Make the golden run of the present format version: `python -m scripts.golden`.

Once a version is released its run is never made again: later versions must read this one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.damage import record
from tests.test_golden import GOLDEN, described
from wandbkeras.store.schema import FORMAT_VERSION


def main() -> int:
    folder = GOLDEN / f"version-{FORMAT_VERSION}"
    if folder.exists():
        print(f"{folder} is there already: remove it only if this version was never released")
        return 1
    sys.argv = ["train.py"]  # what the run says of its program
    root = folder / "run-20261123_054500-k3j9x2ab"
    record(root)
    root.with_suffix(".source").unlink()
    text = json.dumps(described(root), indent=2, ensure_ascii=False, sort_keys=True)
    Path(folder / "expected.json").write_text(f"{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
