"""Fuzz the readers of runs: journal, documents, manifests and Parquet parts, guided by coverage.

Each target of ``tests/fuzzing.py`` gets its share of the time, in a process of its own. What a
target once took stays in ``.fuzz``, so that the next time goes on from there. A content on which
reading ends with an exception that isn't ours, takes too long or too much memory ends the target;
it is kept in ``tests/fuzzed``, where the tests read it from then on. Exit status 1 if there is one.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
CORPUS, KEPT = ROOT / ".fuzz", ROOT / "tests" / "fuzzed"
# Twice what the tests allow a bomb, for the interpreter and the instruments.
MEMORY_MB = 4096
TOO_LONG_S = 60


def fuzz(target: str, seconds: int, folder: Path) -> None:
    """Fuzz a target until something is found, which is left in ``folder``; never returns."""
    import atheris

    with atheris.instrument_imports(include=["wandbkeras"]):
        import wandbkeras.store.search  # noqa: F401  which is imported when it is needed
        from tests.fuzzing import Run
    import pyarrow

    pyarrow.set_cpu_count(1)  # the threads take longer to wake than so small a file to read
    corpus = CORPUS / target
    corpus.mkdir(parents=True, exist_ok=True)
    run = Run(folder / "runs")
    for number, seed in enumerate(run.seeds(target)):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={folder}/found-"]
    options += [f"-rss_limit_mb={MEMORY_MB}", f"-timeout={TOO_LONG_S}", "-print_final_stats=1"]
    arguments = [sys.argv[0], *options, str(corpus)]
    atheris.Setup(arguments, lambda content: run.judge(target, content))
    atheris.Fuzz()


def fuzz_apart(target: str, seconds: int) -> bool:
    """Fuzz a target in a process of its own; keep what it finds, and return whether it did."""
    from tests.fuzzing import digest

    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        command = [sys.executable, __file__, "--apart", target, str(seconds), name]
        done = subprocess.run(command, capture_output=True, text=True)
        contents = [path.read_bytes() for path in Path(name).glob("found-*")]
    said = done.stdout + done.stderr
    runs = re.search(r"number_of_executed_units: *(\d+)", said)
    print(f"{target:<12}{runs[1] if runs else 'no':>9} contents read", flush=True)
    for content in contents:
        KEPT.mkdir(exist_ok=True)
        kept = KEPT / f"{target}-{digest(content)}"
        kept.write_bytes(content)
        print(f"{said}\nkept as {kept.relative_to(ROOT)}", flush=True)
    if runs is None and not contents:
        raise RuntimeError(f"{target}: the fuzzer failed: {said}")
    return bool(contents)


def main() -> int:
    from tests.fuzzing import TARGETS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=300, help="of all targets (default 300)")
    parser.add_argument("--apart", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.apart:
        target, seconds, folder = arguments.apart
        fuzz(target, int(seconds), Path(folder))
    targets = arguments.targets or list(TARGETS)
    if unknown := set(targets) - TARGETS.keys():
        parser.error(f"received {sorted(unknown)}; expected some of {', '.join(TARGETS)}")
    share = max(1, arguments.seconds // len(targets))
    found = [target for target in targets if fuzz_apart(target, share)]
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
