"""Which requests there are: path, kind, method, whether a key is asked for, who handles it."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from tests.server import file_stream, transfers
from tests.server.context import Context
from tests.server.graphql_endpoint import GraphQLRequest
from tests.server.refusal import RefusalError, violation
from tests.server.state import State

Handler = Callable[[Context], Response]


@dataclass(frozen=True)
class Prepared:
    """A request whose body has been read: what is left to do happens in one transaction."""

    handler: Handler
    operation: str | None = None


@dataclass(frozen=True)
class Route:
    pattern: re.Pattern[str]
    kind: str
    method: str
    prepare: Callable[[State, Request, tuple[str, ...]], Awaitable[Prepared]]
    key_needed: bool = True


async def _graphql(state: State, request: Request, found: tuple[str, ...]) -> Prepared:
    query = GraphQLRequest.parse(await request.body())
    return Prepared(query.execute, query.operation)


async def _file_stream(state: State, request: Request, found: tuple[str, ...]) -> Prepared:
    entity, project, run = found
    body = await request.body()
    if request.headers.get("content-encoding") == "gzip":
        try:
            body = gzip.decompress(body)
        except (OSError, EOFError, zlib.error) as exc:
            raise violation("file_stream", f"the body is no gzip: {exc}") from exc
    return Prepared(lambda c: file_stream.accept(c, entity, project, run, body=body))


async def _upload(state: State, request: Request, found: tuple[str, ...]) -> Prepared:
    (token,) = found
    declared = request.headers.get("content-md5")
    blob = await state.receive(request.stream())
    return Prepared(lambda c: transfers.store(c, token, blob, declared=declared))


async def _object(state: State, request: Request, found: tuple[str, ...]) -> Prepared:
    return Prepared(lambda c: _send(c, found[0]))


async def _run_file(state: State, request: Request, found: tuple[str, ...]) -> Prepared:
    entity, project, run, name = found
    return Prepared(lambda c: _send(c, transfers.run_file(c, entity, project, run, name)))


async def _artifact_file(state: State, request: Request, found: tuple[str, ...]) -> Prepared:
    birth, digest = found
    return Prepared(lambda c: _send(c, transfers.artifact_file(c, birth, digest)))


async def _health(state: State, request: Request, found: tuple[str, ...]) -> Prepared:
    return Prepared(lambda c: JSONResponse({}))


def _send(context: Context, sha256: str) -> Response:
    path = context.state.object_path(sha256)
    if not path.exists():
        raise RefusalError(404, "no such object")
    return FileResponse(path)


ROUTES = (
    Route(re.compile("/graphql"), "graphql", "POST", _graphql),
    Route(
        re.compile("/files/([^/]+)/([^/]+)/([^/]+)/file_stream"),
        "file_stream",
        "POST",
        _file_stream,
    ),
    Route(re.compile("/files/([^/]+)/([^/]+)/([^/]+)/(.+)"), "download", "GET", _run_file),
    Route(re.compile("/artifactsV2(?:/[^/]+){5}/([^/]+)/([0-9a-f]+)/.+"), "download", "GET",
          _artifact_file),
    # Like signed URLs: whoever has one needs no key.
    Route(re.compile("/storage/upload/([^/]+)"), "upload", "PUT", _upload, key_needed=False),
    Route(re.compile("/storage/object/([0-9a-f]{64})/[^/]+"), "download", "GET", _object,
          key_needed=False),
    Route(re.compile("/healthz|/ready"), "other", "GET", _health, key_needed=False),
)  # fmt: skip


def find(path: str) -> tuple[Route, tuple[str, ...]] | None:
    """The route of a path, and what its pattern found there."""
    for route in ROUTES:
        if found := route.pattern.fullmatch(path):
            return route, found.groups()
    return None
