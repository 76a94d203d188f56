"""Values that become files of the run: the same file each time, and no name leads out of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.process import LoopbackServer
from tests.syncing import connect, held, sync_one
from wandbkeras import Run
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import is_run_file_name
from wandbkeras.sync.content import Content
from wandbkeras.sync.media import made_file, media_path

GRAPH = {
    "format": "keras",
    "nodes": [{"name": "é", "id": "é", "class_name": "Dense", "num_parameters": 4}],
    "edges": [],
}


def test_a_graph_is_a_file_and_a_reference_to_it(start: Callable[..., Run]) -> None:
    """The summary names the file by path, SHA-256 and size, and the file holds the graph."""
    run = start()
    run.summary["graph"] = {"_type": "graph", **GRAPH}
    run.finish()
    content = Content(StoredRun(run.dir or ""))
    reference = content.summary["graph"]
    ((path, file),) = content.files.items()
    data = json.dumps(GRAPH, ensure_ascii=False, separators=(",", ":")).encode()
    digest = hashlib.sha256(data).hexdigest()
    assert reference == {
        "_type": "graph-file",
        "sha256": digest,
        "size": len(data),
        "path": f"media/graph/graph_summary_{digest[:20]}.graph.json",
    }
    assert (path, file.sha256, file.size) == (reference["path"], digest, reference["size"])
    assert StoredRun(run.dir or "").summary["graph"] == {"_type": "graph", **GRAPH}


@pytest.mark.parametrize("key", ["../../x", "/etc/x", "a//b", "..", "a\\b", "a\nb", "é ö/ü", ""])
def test_no_key_leads_out_of_the_folder(key: str) -> None:
    """The name of a file is one that a file of a run may have, whatever the key is."""
    name = media_path("graph", key, "summary", made_file(b""), ".graph.json")
    assert is_run_file_name(name)
    assert name.startswith("media/graph/")


def test_a_made_file_arrives_and_is_sent_once(
    start: Callable[..., Run],
    tmp_path: Path,
    wandb_server: LoopbackServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sync makes it, uploads it, and finds it by its size and MD5 when it reads back."""
    run = start(project="digits")
    run.summary["graph"] = {"_type": "graph", **GRAPH}
    run.finish()
    connect(wandb_server, tmp_path / "home", monkeypatch)
    first = sync_one(run.dir)
    assert (first.error, first.files_sent) == (None, 1)
    found = held(wandb_server, run.id)
    assert json.loads(found.files[found.summary["graph"]["path"]]) == GRAPH
    states: dict[str, Any] = {"state_directory": tmp_path / "receipts"}
    again = sync_one(run.dir, **states)
    assert (again.outcome, again.files_sent) == ("verified", 0)
