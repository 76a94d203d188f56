"""The loopback W&B server, met by the real client and by hand-made requests."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import math
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.server.process import LoopbackServer

ENTITY, PROJECT, RUN = "loopback", "digits", "run1"
BIG = 2**53 + 1

RECORD = """
    import math, pathlib, sys, wandb

    pathlib.Path("notes.txt").write_text("kept")
    run = wandb.init(
        project="digits", id="run1", mode=sys.argv[1], config={"lr": 0.1, "layers": [1, 2]},
        tags=["a", "b"], notes="a note", group="g", job_type="train",
        settings=wandb.Settings(x_disable_stats=True),
    )
    for i in range(10):
        run.log(
            {
                "loss": 1 / (i + 1), "big": 2**53 + 1 + i, "nan": math.nan, "inf": -math.inf,
                "weights": wandb.Histogram(np_histogram=([1, 2], [0.0, 0.5, 1.0])),
            },
            step=3 * i,
        )
    for version in range(2):
        pathlib.Path("data.txt").write_text(f"data {version}")
        artifact = wandb.Artifact("data", "dataset", metadata={"version": version})
        artifact.add_file("data.txt")
        artifact.add_file("notes.txt", name="sub/notes.txt")
        run.log_artifact(artifact, aliases=["latest", f"try{version}"])
    run.save("notes.txt")
    run.summary["best"] = 0.5
    print("hello console")
    run.finish()
"""

READ = """
    import json, wandb

    api = wandb.Api()
    run = api.run("loopback/digits/run1")
    version = api.artifact("loopback/digits/data:latest")
    version.download("there", skip_cache=True)
    print(json.dumps({
        "state": run.state, "config": run.config, "summary": run.summary_metrics,
        "tags": run.tags, "notes": run.notes, "group": run.group, "job_type": run.job_type,
        "host": run.metadata["host"], "last_step": run.lastHistoryStep,
        "lines": run._attrs["historyLineCount"],
        "rows": list(run.scan_history()),
        "two_keys": list(run.scan_history(keys=["loss", "nan"])),
        "sampled": run.history(samples=4, pandas=False),
        "files": sorted(file.name for file in run.files()),
        "file": run.file("notes.txt").download("there").read(),
        "artifacts": [
            [a.name, a.type, a.digest, a.metadata, sorted(a.aliases), sorted(a.manifest.entries)]
            for a in run.logged_artifacts()
        ],
        "used": [a.name for a in run.used_artifacts()],
        "latest": [version.version, version.size, open("there/data.txt").read()],
        "runs": [found.id for found in api.runs("loopback/digits", {"config.lr": 0.1})],
    }))
"""


def wandb_process(
    server: LoopbackServer, home: Path, code: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Runs Python code with the real client against the server."""
    home.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=home,
        env=server.environ(home),
        capture_output=True,
        text=True,
        check=True,
    )


def wandb_sync(server: LoopbackServer, home: Path) -> None:
    (run,) = (home / "wandb").glob("offline-run-*")
    wandb_process(
        server,
        home,
        "import sys; from wandb.cli.cli import cli; sys.argv[0] = 'wandb'; cli()",
        "sync",
        str(run),
    )


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Hand:
    """Requests made by hand."""

    server: LoopbackServer

    def send(
        self, method: str, path: str, body: bytes | None = None, *, api_key: str | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port)
        key = base64.b64encode(f"api:{api_key or self.server.api_key}".encode()).decode()
        try:
            connection.request(method, path, body, {"Authorization": f"Basic {key}"})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        is_json = answer.headers.get_content_type() == "application/json"
        return Answer(
            answer.status, dict(answer.headers.items()), json.loads(text) if is_json else text
        )

    def graphql(self, query: str, **variables: Any) -> Answer:
        body = json.dumps({"query": query, "variables": variables}).encode()
        return self.send("POST", "/graphql", body)

    def mutate(self, name: str, answer: str, /, **fields: Any) -> Any:
        """One mutation that is accepted; what it answers."""
        kind = name[0].upper() + name[1:] + "Input"
        query = f"mutation M($input: {kind}!) {{ {name}(input: $input) {{ {answer} }} }}"
        got = self.graphql(query, input=fields)
        assert got.status == 200, got.body
        return got.body["data"][name]

    def upsert(self, run: str = RUN, /, **fields: Any) -> Any:
        return self.mutate(
            "upsertBucket",
            "inserted bucket { id state historyLineCount }",
            **{"entityName": ENTITY, "modelName": PROJECT, "name": run, **fields},
        )

    def history(self, *lines: str, offset: int = 0) -> Answer:
        return self.stream({"files": {"wandb-history.jsonl": chunk(*lines, offset=offset)}})

    def stream(self, message: dict[str, Any]) -> Answer:
        path = f"/files/{ENTITY}/{PROJECT}/{RUN}/file_stream"
        return self.send("POST", path, json.dumps(message).encode())

    def put(self, url: str, body: bytes) -> Answer:
        return self.send("PUT", url.removeprefix(self.server.url), body)

    def artifact(self, *, digest: str, **fields: Any) -> str:
        created = self.mutate(
            "createArtifact",
            "artifact { id state }",
            **{
                "entityName": ENTITY, "projectName": PROJECT, "runName": RUN, "digest": digest,
                "artifactTypeName": "model", "artifactCollectionName": "weights",
                "digestAlgorithm": "MANIFEST_MD5", "enableDigestDeduplication": True, **fields,
            },
        )  # fmt: skip
        return str(created["artifact"]["id"])

    def manifest(self, artifact: str, contents: dict[str, Any]) -> None:
        body = json.dumps({"version": 1, "contents": contents}).encode()
        made = self.mutate(
            "createArtifactManifest",
            "artifactManifest { file { uploadUrl } }",
            artifactID=artifact, name="wandb_manifest.json", digest=md5_base64(body),
            entityName=ENTITY, projectName=PROJECT, runName=RUN, type="FULL",
        )  # fmt: skip
        assert self.put(made["artifactManifest"]["file"]["uploadUrl"], body).status == 200

    def artifact_file(self, artifact: str, name: str, md5: str, /, **fields: Any) -> Any:
        node = "uploadUrl storagePath uploadMultipartUrls { uploadID uploadUrlParts { uploadUrl } }"
        made = self.mutate(
            "createArtifactFiles",
            f"files {{ edges {{ node {{ {node} }} }} }}",
            artifactFiles=[{"artifactID": artifact, "name": name, "md5": md5, **fields}],
        )
        return made["files"]["edges"][0]["node"]

    def commit(self, artifact: str) -> Answer:
        query = """mutation CommitArtifact($id: ID!) {
            commitArtifact(input: {artifactID: $id}) { artifact { id digest versionIndex } }
        }"""
        return self.graphql(query, id=artifact)


def chunk(*lines: str, offset: int = 0) -> dict[str, Any]:
    return {"offset": offset, "content": list(lines)}


def md5_base64(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def manifest_digest(contents: dict[str, Any]) -> str:
    lines = "".join(f"{name}:{entry['digest']}\n" for name, entry in sorted(contents.items()))
    return hashlib.md5(b"wandb-artifact-manifest-v1\n" + lines.encode()).hexdigest()


@pytest.fixture
def hand(wandb_server: LoopbackServer) -> Iterator[Hand]:
    yield Hand(wandb_server)


def kinds(server: LoopbackServer) -> list[str]:
    """The violations so far; the test provoked them."""
    server.expect_violations()
    return [violation.kind for violation in server.violations()]


# --- the real client ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_what_the_client_records_is_kept_and_read_back(
    wandb_server: LoopbackServer, tmp_path: Path, mode: str
) -> None:
    """A run logged online, or offline and synced, is held exactly and read back by wandb.Api."""
    home = tmp_path / "home"
    wandb_process(wandb_server, home, RECORD, mode)
    if mode == "offline":
        assert wandb_server.requests() == []
        wandb_sync(wandb_server, home)

    held = wandb_server.run(ENTITY, PROJECT, RUN)
    assert [row["_step"] for row in held.rows] == list(range(0, 30, 3))
    assert [row["big"] for row in held.rows] == [BIG + i for i in range(10)]
    assert all(math.isnan(row["nan"]) and row["inf"] == -math.inf for row in held.rows)
    assert held.rows[0]["weights"] == {
        "_type": "histogram", "values": [1, 2], "bins": [0, 0.5, 1],
    }  # fmt: skip
    assert held.config_values == {"lr": 0.1, "layers": [1, 2]}
    assert (held.tags, held.notes, held.group, held.job_type) == (
        ("a", "b"), "a note", "g", "train",
    )  # fmt: skip
    assert (held.state, held.exit_code) == ("finished", 0)
    assert (held.summary["best"], held.summary["big"]) == (0.5, BIG + 9)
    assert held.files["notes.txt"] == b"kept"
    assert [a.version for a in held.logged_artifacts] == [0, 1]
    first, second = held.logged_artifacts
    assert (first.aliases, second.aliases) == (("try0",), ("latest", "try1"))
    assert first.files == {"data.txt": b"data 0", "sub/notes.txt": b"kept"}
    assert second.files == {"data.txt": b"data 1", "sub/notes.txt": b"kept"}

    reader = wandb_process(wandb_server, tmp_path / "reader", READ)
    read = json.loads(reader.stdout)
    assert read["state"] == "finished"
    assert read["config"] == held.config_values
    assert json.dumps(read["summary"]) == json.dumps(held.summary)
    assert [read["tags"], read["notes"]] == [["a", "b"], "a note"]
    assert [read["group"], read["job_type"]] == ["g", "train"]
    assert read["host"] == json.loads(held.files["wandb-metadata.json"])["host"]
    assert [read["last_step"], read["lines"]] == [27, 10]
    assert same_rows(read["rows"], held.rows)
    assert [row["nan"] for row in read["two_keys"]] == ["NaN"] * 10
    assert len(read["sampled"]) == 4
    assert read["files"] == sorted(held.files)
    assert read["file"] == "kept"
    assert read["artifacts"] == [
        [
            f"data:v{a.version}", "dataset", a.digest, {"version": a.version}, sorted(a.aliases),
            ["data.txt", "sub/notes.txt"],
        ]
        for a in held.logged_artifacts
    ]  # fmt: skip
    assert read["used"] == []
    assert read["latest"] == ["v1", 10, "data 1"]
    assert read["runs"] == [RUN]


def same_rows(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> bool:
    """Equal as JSON texts: NaN equals NaN, and 1 is not 1.0."""
    return [json.dumps(row, sort_keys=True) for row in left] == [
        json.dumps(row, sort_keys=True) for row in right
    ]


def test_a_second_sync_of_a_synced_run_sends_nothing(
    wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """The request log shows that the client asks the server nothing for a run it marked synced."""
    home = tmp_path / "home"
    wandb_process(wandb_server, home, RECORD, "offline")
    wandb_sync(wandb_server, home)
    before = wandb_server.requests()
    wandb_sync(wandb_server, home)
    assert wandb_server.requests() == before


def test_a_resumed_run_appends(wandb_server: LoopbackServer, tmp_path: Path) -> None:
    """A resumed run goes on after the rows the server holds, and is finished again."""
    code = """
        import sys, wandb

        run = wandb.init(project="digits", id="run1", resume="allow", config={sys.argv[1]: 1},
                         settings=wandb.Settings(x_disable_stats=True))
        for i in range(3):
            run.log({"x": i})
        run.finish(exit_code=int(sys.argv[2]))
    """
    wandb_process(wandb_server, tmp_path / "home", code, "first", "1")
    assert wandb_server.run(ENTITY, PROJECT, RUN).state == "failed"
    wandb_process(wandb_server, tmp_path / "home", code, "second", "0")
    held = wandb_server.run(ENTITY, PROJECT, RUN)
    assert [row["_step"] for row in held.rows] == list(range(6))
    assert [row["x"] for row in held.rows] == [0, 1, 2, 0, 1, 2]
    assert held.config_values == {"first": 1, "second": 1}
    assert (held.state, held.exit_code) == ("finished", 0)


def test_a_killed_server_comes_back_under_a_running_client(
    wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """SIGKILL and a lost acknowledgement in the middle of a run lose nothing and double nothing."""
    code = """
        import wandb

        run = wandb.init(project="digits", id="run1",
                         settings=wandb.Settings(x_disable_stats=True))
        for i in range(5):
            run.log({"x": i})
        print("logged", flush=True)
        input()
        for i in range(5, 10):
            run.log({"x": i})
        run.finish()
    """
    home = tmp_path / "home"
    home.mkdir()
    client = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=home,
        env=wandb_server.environ(home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdout is not None
    assert client.stdout.readline() == "logged\n"
    wandb_server.kill()
    wandb_server.restart()
    wandb_server.add_fault("lose", kind="file_stream", times=1)
    client.communicate("go on\n")
    assert client.returncode == 0
    held = wandb_server.run(ENTITY, PROJECT, RUN)
    assert [row["x"] for row in held.rows] == list(range(10))
    assert held.state == "finished"


# --- what is kept ------------------------------------------------------------------------------


def test_everything_survives_sigkill(hand: Hand) -> None:
    """What was acknowledged before SIGKILL is there after the restart, on the same port."""
    hand.upsert(config='{"lr": {"value": 0.1}}', summaryMetrics='{"best": 1}')
    assert hand.history('{"_step": 0, "x": NaN}').status == 200
    made = hand.mutate(
        "createRunFiles", "files { uploadUrl }",
        entityName=ENTITY, projectName=PROJECT, runName=RUN, files=["a b/c#d?.txt"],
    )  # fmt: skip
    assert hand.put(made["files"][0]["uploadUrl"], b"bytes").status == 200
    before, requests = hand.server.run(ENTITY, PROJECT, RUN), hand.server.requests()
    port = hand.server.port
    hand.server.kill()
    assert hand.server.run(ENTITY, PROJECT, RUN) == before
    hand.server.restart()
    assert hand.server.port == port
    assert hand.server.run(ENTITY, PROJECT, RUN) == before
    assert before.files == {"a b/c#d?.txt": b"bytes"}
    assert hand.server.requests() == requests
    assert hand.upsert()["bucket"]["historyLineCount"] == 1


def test_a_repeated_chunk_is_accepted_once(hand: Hand) -> None:
    """The same lines at the same offset, whatever the order of their keys, are not doubled."""
    hand.upsert()
    assert hand.history('{"_step": 0, "x": NaN}', '{"_step": 1}').status == 200
    assert hand.history('{"x": NaN, "_step": 0}', '{"_step": 1}', '{"_step": 2}').status == 200
    assert len(hand.server.run(ENTITY, PROJECT, RUN).history) == 3


def test_console_and_summary_are_rewritten(hand: Hand) -> None:
    """Console lines and the summary change in place; the run ends as its exit code says."""
    hand.upsert()
    for word in ("one", "two"):
        files = {"output.log": chunk(word), "wandb-summary.json": chunk(f'{{"x": "{word}"}}')}
        assert hand.stream({"files": files}).status == 200
    assert hand.stream({"complete": True, "exitcode": 3}).status == 200
    held = hand.server.run(ENTITY, PROJECT, RUN)
    assert (held.console, held.summary, held.state) == (["two"], {"x": "two"}, "failed")


def test_a_silent_run_is_crashed_and_runs_again(tmp_path: Path) -> None:
    """A running run without heartbeat reads as crashed; an upsert by name makes it run again."""
    query = """query RunState($run: String!) {
        project(name: "digits", entityName: "loopback") { run(name: $run) { state } }
    }"""
    with LoopbackServer(tmp_path / "server", crash_after_s=0.0).start() as server:
        hand = Hand(server)
        hand.upsert()
        state = hand.graphql(query, run=RUN).body["data"]["project"]["run"]["state"]
        assert state == "crashed"
        assert hand.upsert()["bucket"]["state"] == "running"


def test_counts_lag_behind(tmp_path: Path) -> None:
    """With a lag the server takes lines at once and tells of them later, as the hosted one."""
    with LoopbackServer(tmp_path / "server", lag_s=3600.0).start() as server:
        hand = Hand(server)
        hand.upsert()
        assert hand.history('{"_step": 0}').status == 200
        assert hand.history('{"_step": 1}', offset=1).status == 200
        assert hand.upsert()["bucket"]["historyLineCount"] == 0
        assert len(server.run(ENTITY, PROJECT, RUN).history) == 2


def test_the_history_of_an_ended_run_is_exported(tmp_path: Path) -> None:
    """With exports wandb.Api reads an ended run's rows from Parquet, absent values as None."""
    with LoopbackServer(tmp_path / "server", exports=True).start() as server:
        hand = Hand(server)
        hand.upsert()
        rows = [{"_step": 0, "x": math.nan, "big": BIG}, {"_step": 5, "x": 1.5, "late": "a"}]
        hand.history(*map(json.dumps, rows))
        hand.stream({"complete": True, "exitcode": 0})
        code = """
            import json, wandb
            run = wandb.Api().run("loopback/digits/run1")
            print(json.dumps(list(run.scan_history())))
        """
        read = json.loads(wandb_process(server, tmp_path / "home", code).stdout)
        assert same_rows(
            read,
            [
                {"_step": 0, "x": math.nan, "big": BIG, "late": None},
                {"_step": 5, "x": 1.5, "big": None, "late": "a"},
            ],
        )
        assert server.violations() == []


def test_an_artifact_with_the_latest_digest_makes_no_version(hand: Hand) -> None:
    """The same digest gives the committed version back, and the aliases move to it."""
    hand.upsert()
    contents = {"w.bin": {"digest": md5_base64(b"w"), "size": 1}}
    digest = manifest_digest(contents)
    alias = {"artifactCollectionName": "weights", "alias": "best"}
    first = hand.artifact(digest=digest)
    assert hand.put(
        hand.artifact_file(first, "w.bin", md5_base64(b"w"))["uploadUrl"], b"w"
    ).status == 200  # fmt: skip
    hand.manifest(first, contents)
    assert hand.commit(first).body["data"]["commitArtifact"]["artifact"]["versionIndex"] == 0
    assert hand.artifact(digest=digest, aliases=[alias]) == first
    (held,) = hand.server.artifacts(ENTITY, PROJECT, "weights")
    assert held.aliases == ("best", "latest")
    assert held.files == {"w.bin": b"w"}


def test_a_large_file_arrives_in_parts(hand: Hand) -> None:
    """A multipart upload is joined when all parts are there with their md5."""
    hand.upsert()
    parts = [b"first ", b"second"]
    whole = b"".join(parts)
    contents = {"w.bin": {"digest": md5_base64(whole), "size": len(whole)}}
    artifact = hand.artifact(digest=manifest_digest(contents))
    told = [
        {"partNumber": n, "hexMD5": hashlib.md5(part, usedforsecurity=False).hexdigest()}
        for n, part in enumerate(parts, 1)
    ]
    node = hand.artifact_file(artifact, "w.bin", md5_base64(whole), uploadPartsInput=told)
    urls = node["uploadMultipartUrls"]
    tags = [
        hand.put(url["uploadUrl"], part).headers["etag"]
        for url, part in zip(urls["uploadUrlParts"], parts, strict=True)
    ]
    hand.mutate(
        "completeMultipartUploadArtifact", "digest",
        completeMultipartAction="Complete", artifactID=artifact, uploadID=urls["uploadID"],
        storagePath=node["storagePath"],
        completedParts=[{"partNumber": n, "hexMD5": tag} for n, tag in enumerate(tags, 1)],
    )  # fmt: skip
    hand.manifest(artifact, contents)
    assert hand.commit(artifact).status == 200
    (held,) = hand.server.artifacts(ENTITY, PROJECT, "weights")
    assert held.files == {"w.bin": whole}


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "line", "kind"),
    [
        (2, '{"_step": 5}', "gap"),
        (0, '{"_step": 0, "x": 2}', "rewritten"),
        (1, '{"_step": 0}', "step"),
        (1, '{"x": 1}', "step"),
        (1, '{"_step": 1.5}', "step"),
        (1, "[1]", "line"),
        (1, '{"_step": 1', "line"),
    ],
)
def test_a_wrong_history_line_is_a_violation(hand: Hand, offset: int, line: str, kind: str) -> None:
    """A gap, a changed line, a step that does not rise and a malformed row are refused whole."""
    hand.upsert()
    assert hand.history('{"_step": 0, "x": 1}').status == 200
    assert hand.history(line, offset=offset).status == 400
    assert kinds(hand.server) == [kind]
    assert hand.server.run(ENTITY, PROJECT, RUN).history == ('{"_step": 0, "x": 1}',)


@pytest.mark.parametrize(
    "query",
    [
        "query Q { viewer { shoeSize } }",
        "query Q { viewer(size: 1) { id } }",
        "query Q { nobody { id } }",
        "mutation M { deleteEverything { success } }",
        "query Q { viewer",
        "{ viewer { id } }",
    ],
)
def test_unknown_graphql_is_a_violation(hand: Hand, query: str) -> None:
    """A field, argument or operation outside the schema is refused."""
    assert hand.graphql(query).status == 400
    assert kinds(hand.server) == ["graphql"]


def test_a_wrong_variable_is_a_violation(hand: Hand) -> None:
    """A variable that its type can't hold is refused before anything is resolved."""
    query = "query Q($n: Int!) { models(first: $n) { edges { cursor } } }"
    assert [hand.graphql(query, n=n).status for n in (1, 2**40, "1")] == [200, 400, 400]
    assert kinds(hand.server) == ["graphql", "graphql"]


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/api/secret", 404, "endpoint"),
        ("GET", "/graphql", 405, "method"),
        ("POST", "/healthz", 405, "method"),
        ("PUT", "/storage/upload/guessed", 403, "upload"),
    ],
)
def test_unknown_endpoints_are_violations(
    hand: Hand, method: str, path: str, status: int, kind: str
) -> None:
    """A path, method or upload URL the server never gave out is refused."""
    assert hand.send(method, path).status == status
    assert kinds(hand.server) == [kind]


def test_a_wrong_checksum_is_a_violation(hand: Hand) -> None:
    """Bytes that are not those declared are refused, and the artifact can't be committed."""
    hand.upsert()
    contents = {"w.bin": {"digest": md5_base64(b"right"), "size": 5}}
    artifact = hand.artifact(digest=manifest_digest(contents))
    node = hand.artifact_file(artifact, "w.bin", md5_base64(b"right"))
    assert hand.put(node["uploadUrl"], b"wrong").status == 400
    hand.manifest(artifact, contents)
    assert hand.commit(artifact).status == 409
    assert kinds(hand.server) == ["checksum", "commit"]


def test_a_wrong_artifact_digest_is_a_violation(hand: Hand) -> None:
    """The digest declared must be the one W&B computes from the manifest."""
    hand.upsert()
    artifact = hand.artifact(digest="0" * 32)
    hand.manifest(artifact, {})
    assert hand.commit(artifact).status == 400
    assert kinds(hand.server) == ["digest"]


def test_ordinary_refusals_are_no_violations(hand: Hand) -> None:
    """A wrong key, an unknown entity, a bad project name and a deleted run are the real
    server's own answers."""
    upsert = """mutation UpsertBucket($input: UpsertBucketInput!) {
        upsertBucket(input: $input) { bucket { id } }
    }"""
    assert hand.send("POST", "/graphql", b"{}", api_key="wrong").status == 401
    fields = {"entityName": ENTITY, "modelName": PROJECT, "name": RUN}
    assert hand.graphql(upsert, input={**fields, "entityName": "other"}).status == 404
    for name in ("a/b", "what?", "x" * 129):
        assert hand.graphql(upsert, input={**fields, "modelName": name}).status == 400
    hand.mutate("deleteRun", "clientMutationId", id=hand.upsert()["bucket"]["id"])
    assert hand.graphql(upsert, input=fields).status == 409
    assert hand.history('{"_step": 0}').status == 404
    assert hand.server.run(ENTITY, PROJECT, RUN).deleted


# --- faults ------------------------------------------------------------------------------------


def test_faults_hit_what_they_match_and_run_out(hand: Hand) -> None:
    """A status fault answers instead of the server, so often and no more."""
    hand.upsert()
    hand.server.add_fault("status", kind="file_stream", status=503, times=2)
    assert [hand.history('{"_step": 0}').status for _ in range(3)] == [503, 503, 200]
    hand.server.add_fault("status", operation="UpsertBucket", status=429)
    assert hand.graphql("query Viewer { viewer { id } }").status == 200
    hand.server.clear_faults()
    assert hand.upsert()["inserted"] is False


def test_a_closed_connection_changes_nothing_and_a_lost_answer_all(hand: Hand) -> None:
    """`close` breaks the connection before the request counts, `lose` after it did."""
    hand.upsert()
    for action, lines in (("close", 0), ("lose", 1)):
        hand.server.add_fault(action, path="*/file_stream", times=1)  # type: ignore[arg-type]
        with pytest.raises((ConnectionError, http.client.BadStatusLine)):
            hand.history('{"_step": 0}')
        assert len(hand.server.run(ENTITY, PROJECT, RUN).history) == lines
    assert [r.status for r in hand.server.requests()] == [200, None, 200]


def test_a_malformed_fault_is_refused(wandb_server: LoopbackServer) -> None:
    """A rule the server would not understand never silently matches nothing."""
    with pytest.raises(Exception, match="400"):
        wandb_server.add_fault("status", kind="grapql")
