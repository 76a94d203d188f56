"""Bytes in by PUT, checked against what was declared; bytes out by name or digest."""

from __future__ import annotations

import base64

from starlette.responses import Response

from tests.server.context import Context
from tests.server.refusal import RefusalError, violation
from tests.server.runs import need_run
from tests.server.state import Blob, parse_id


def store(context: Context, token: str, blob: Blob, *, declared: str | None) -> Response:
    """Takes the body of a PUT to an upload URL."""
    upload = context.state.one("select * from uploads where token = ?", token)
    if upload is None:
        raise violation("upload", f"no upload URL was given with the token {token}", status=403)
    for source, expected in (("declared", upload["md5"]), ("in Content-MD5", declared)):
        if expected and expected != blob.md5:
            raise violation("checksum", f"md5 {blob.md5} where {source} is {expected}")
    match upload["target"]:
        case "run_file":
            context.state.update(
                "run_files", upload["row"], object=blob.sha256, size=blob.size, md5=blob.md5,
                updated_at=context.now,
            )  # fmt: skip
        case "manifest":
            context.state.update("manifests", upload["row"], object=blob.sha256)
        case "artifact_file":
            context.state.update(
                "artifact_files", upload["row"], object=blob.sha256, size=blob.size,
                updated_at=context.now,
            )  # fmt: skip
        case "part":
            context.state.db.execute(
                "update parts set object = ? where file = ? and part = ?",
                (blob.sha256, upload["row"], upload["part"]),
            )
    return Response(headers={"ETag": f'"{base64.b64decode(blob.md5).hex()}"'})


def run_file(context: Context, entity: str, project: str, run: str, name: str) -> str:
    """The object that is a run's file."""
    owner = need_run(context, entity, project, run)
    row = context.state.one(
        "select object from run_files where run = ? and name = ?", owner.pk, name
    )
    if row is None or row["object"] is None:
        raise RefusalError(404, f"file {name} not found")
    return str(row["object"])


def artifact_file(context: Context, birth_artifact: str, hex_digest: str) -> str:
    """The object an artifact brought along, by its digest."""
    (pk,) = parse_id("Artifact", birth_artifact)
    row = context.state.one(
        "select object from artifact_files where artifact = ? and md5 = ?",
        int(pk),
        base64.b64encode(bytes.fromhex(hex_digest)).decode(),
    )
    if row is None or row["object"] is None:
        raise RefusalError(404, f"file {hex_digest} not found")
    return str(row["object"])
