"""The same script with wandb's own client, offline, and with ours: the same rows and summary.

One process runs every script twice; what wandb wrote is read from its transaction log.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.strategies import canonical

NAN = float("nan")
SCRIPTS: dict[str, str] = {
    "each log is a step": "log({'a': 1}); log({'a': 2}); log({'b': 3})",
    "uncommitted rows grow": "log({'a': 1, 'b': 1}, commit=False); log({'b': 2}); log({'c': 3})",
    "explicit steps stay open": (
        "log({'e': 1}, step=10); log({'f': 1}, step=10); log({'g': 1}, step=10, commit=True);"
        "log({'h': 1}, step=10); log({'i': 1}); log({'j': 1}, step=20); log({'k': 1});"
        "log({'l': 1}, step=3); log({}, step=30); log({'m': 1})"
    ),
    "an open row at the end": "log({'a': 1}); log({'a': 2}, commit=False)",
    "empty rows": (
        "log({}); log({'a': 1}); log({}); log({}, step=9, commit=True); log({}, step=20)"
    ),
    "an empty log commits": "log({'a': 1}, commit=False); log({}); log({'b': 1})",
    "nested names": "log({'m.x': 1, 'm': {'y': {'z': 2}}})",
    "values": "log({'n': None, 't': True, 's': 'x', 'f': 0.1, 'i': 2**53, 'nan': float('nan')})",
    "a None leaves the summary": "log({'a': 1}); log({'a': None}); log({'b': None})",
    "a summary by hand": "log({'a': 1}); summary['a'] = 7; summary['b'] = 'x'",
    "a summary by hand is logged over": "summary['a'] = 7; log({'a': 1})",
    "aggregates": (
        "define('a', summary='min,max,mean,first,last');log({'a': 3}); log({'a': 1}); log({'a': 2})"
    ),
    "aggregates and NaN": "define('a', summary='max'); log({'a': NAN}); log({'a': 2})",
    "hidden": "define('a', summary='none'); log({'a': 3}); log({'a': 1, 'b': 1})",
    "a prefix": "define('v*', summary='max'); log({'va': 3, 'w': 1}); log({'va': 1, 'vb': 2})",
    "definitions add up": "define('a', summary='max'); define('a', summary='min'); log({'a': 1})",
    "a definition overwrites": (
        "define('a', summary='max'); log({'a': 5}); define('a', summary='min', overwrite=True);"
        "log({'a': 7})"
    ),
    "by hand ends an aggregate": (
        "define('a', summary='max'); log({'a': 3}); summary['a'] = 77; log({'a': 5}); log({'a': 4})"
    ),
    "hidden for a while": (
        "define('a', summary='max'); log({'a': 5}); define('a', summary='none'); log({'a': 9});"
        "define('a', summary='last'); log({'a': 2})"
    ),
    "a step metric": (
        "define('epoch'); define('loss', step_metric='epoch'); log({'loss': 1}); log({'epoch': 3});"
        "log({'loss': 2}); log({'loss': 3}, step=10); log({'epoch': 7}, step=11);"
        "log({'loss': 4}, step=12); log({'loss': 5}, step=13, commit=True);"
        "log({'loss': 6}, step=20);"
        "log({'epoch': 8}, commit=False); log({'loss': 7}); log({'loss': 8}, commit=False)"
    ),
    "a step metric left alone": (
        "define('a', step_metric='e', step_sync=False); log({'e': 3}); log({'a': 2})"
    ),
    "a step metric that is no number": (
        "define('a', step_metric='e'); log({'e': 'x'}); log({'a': 2});"
        "log({'e': 2.5}); log({'a': 2})"
    ),
}

_BOTH = """
import json, pathlib, sys
import wandb, wandbkeras
from wandb.proto import wandb_internal_pb2 as pb
from tests.wandb_file import read_records

META = {"_timestamp", "_runtime", "_wandb", "_wandb.runtime"}
SETTINGS = wandb.Settings(x_disable_stats=True, x_disable_meta=True, console="off", silent=True)

def play(script, run):
    names = {"log": run.log, "define": run.define_metric, "summary": run.summary}
    exec(script, {**names, "NAN": float("nan")})
    run.finish()

def items(of):
    found = {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in of}
    return {key: value for key, value in found.items() if key not in META}

def theirs(folder):
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    rows, summary = [], {}
    for record in map(pb.Record.FromString, read_records(path)):
        if record.WhichOneof("record_type") == "history":
            rows.append(items(record.history.item))
        elif record.WhichOneof("record_type") == "summary":
            summary |= items(record.summary.update)
    summary.pop("_step", None)
    return rows, summary

def ours(folder):
    (stored,) = wandbkeras.Store(folder / "runs").runs()
    return [{"_step": row.step, **row.values} for row in stored.rows()], stored.summary

scripts, root = json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])
for name, script in scripts.items():
    (root / name).mkdir()
    play(script, wandb.init(mode="offline", dir=root / name, settings=SETTINGS))
    play(script, wandbkeras.init(dir=root / name / "runs"))
wandb.teardown()  # only then is all on disk
answers = {name: [theirs(root / name), ours(root / name)] for name in scripts}
(root / "answers.json").write_text(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each script leaves: rows and summary of wandb, and ours."""
    folder = tmp_path_factory.mktemp("both")
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", _BOTH, json.dumps(SCRIPTS), str(folder)]
    subprocess.run(command, cwd=root, check=True)
    found: dict[str, Any] = json.loads((folder / "answers.json").read_text())
    return found


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_leaves_what_it_leaves_with_wandb(answers: dict[str, Any], name: str) -> None:
    """Steps, rows, values and summary are those of wandb's own client."""
    theirs, ours = answers[name]
    assert canonical(ours) == canonical(theirs)
