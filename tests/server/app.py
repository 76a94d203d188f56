"""HTTP: who may ask what, what faults do to it, and what is written down about it.

Every request is handled alone, inside one transaction that also holds its line of the request log,
so what was answered is kept and what was refused left nothing behind but its violation.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from tests.server import routes
from tests.server.context import Context
from tests.server.faults import Fault, Faults
from tests.server.listener import CONNECTION
from tests.server.refusal import RefusalError, violation
from tests.server.routes import Prepared
from tests.server.state import State


class LoopbackApp:
    """The ASGI application."""

    def __init__(
        self,
        state: State,
        *,
        api_key: str,
        nonfinite: str,
        exports: bool,
        lag: float,
        repeats: bool,
    ) -> None:
        self.state = state
        self.faults = Faults()
        self._authorization = "Basic " + base64.b64encode(f"api:{api_key}".encode()).decode()
        self._nonfinite = nonfinite
        self._exports = exports
        self._lag = lag
        self._repeats = repeats

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http", scope["type"]
        request = Request(scope, receive, send)
        try:
            if scope["path"].startswith("/_loopback/"):
                response: Response | None = await self._administer(request)
            else:
                exchange = _Exchange(self, request)
                response = await exchange.respond()
                if response is not None and exchange.is_cut:
                    await _send_half(response, send)
                    response = None
        except ClientDisconnect:
            return
        if response is None:
            await _break_off(request)
        else:
            await response(scope, receive, send)

    def context(self, request: Request) -> Context:
        base_url = str(request.base_url).rstrip("/")
        return Context(
            self.state,
            base_url=base_url,
            nonfinite=self._nonfinite,
            exports=self._exports,
            lag=self._lag,
            repeats=self._repeats,
        )

    def authorizes(self, request: Request) -> bool:
        return request.headers.get("authorization") == self._authorization

    async def _administer(self, request: Request) -> Response:
        """The test's side door: faults in, faults out."""
        if request.scope["path"] != "/_loopback/faults":
            return JSONResponse({"error": "unknown"}, status_code=404)
        if request.method == "DELETE":
            self.faults.clear()
            return Response(status_code=204)
        try:
            self.faults.add(Fault.from_json(json.loads(await request.body())))
        except (ValueError, TypeError) as exc:
            return JSONResponse({"error": str(exc)}, status_code=400)
        return Response(status_code=204)


class _Exchange:
    """One request and what becomes of it."""

    def __init__(self, app: LoopbackApp, request: Request) -> None:
        self.app = app
        self.state = app.state
        self.request = request
        self.method = request.method
        self.path = str(request.scope["path"])
        self.kind = "other"
        self.operation: str | None = None
        self.is_cut = False

    async def respond(self) -> Response | None:
        """The answer, or None when the connection is to be broken off instead."""
        prepared: Prepared | RefusalError
        try:
            prepared = await self._prepare()
            self.operation = prepared.operation
        except RefusalError as no:
            prepared = no
        fault = self.app.faults.take(kind=self.kind, path=self.path, operation=self.operation)
        if fault is not None and fault.action == "delay":
            await asyncio.sleep(fault.seconds)
        if fault is not None and fault.action == "hold":
            await fault.cleared.wait()
        if fault is not None and fault.action in ("status", "close"):
            return self._inject(fault)
        response = self._handle(prepared)
        self.is_cut = fault is not None and fault.action == "cut"
        return None if fault is not None and fault.action == "lose" else response

    async def _prepare(self) -> Prepared:
        match = routes.find(self.path)
        if match is None:
            raise violation("endpoint", f"{self.method} {self.path}", status=404)
        route, found = match
        self.kind = route.kind
        if self.method != route.method:
            raise violation("method", f"{self.method} where {route.method} is known", status=405)
        if route.key_needed and not self.app.authorizes(self.request):
            raise RefusalError(401, "user is not logged in")
        return await route.prepare(self.state, self.request, found)

    def _handle(self, prepared: Prepared | RefusalError) -> Response:
        try:
            if isinstance(prepared, RefusalError):
                raise prepared
            with self.state.transaction():
                response = prepared.handler(self.app.context(self.request))
                self._log(response.status_code)
        except RefusalError as no:
            return self._refuse(no)
        except Exception:  # a bug of ours: uvicorn answers 500 and writes the traceback
            with self.state.transaction():
                self._log(500)
            raise
        return response

    # --- what is written down ---------------------------------------------------------------

    def _log(self, status: int | None) -> None:
        self.state.log_request(
            method=self.method,
            path=self.path,
            kind=self.kind,
            operation=self.operation,
            status=status,
        )

    def _refuse(self, no: RefusalError) -> Response:
        with self.state.transaction():
            self._log(no.status)
            if no.violation is not None:
                self.state.log_violation(
                    no.violation,
                    no.message,
                    method=self.method,
                    path=self.path,
                    operation=self.operation,
                )
        return JSONResponse({"errors": [{"message": no.message}]}, status_code=no.status)

    def _inject(self, fault: Fault) -> Response | None:
        status = fault.status if fault.action == "status" else None
        with self.state.transaction():
            self._log(status)
        if status is None:
            return None
        return Response(
            fault.body, status_code=status, headers=fault.headers, media_type="application/json"
        )


async def _send_half(response: Response, send: Any) -> None:
    """Send the headers, which promise all of the answer, and half of it."""
    start = {"type": "http.response.start", "status": response.status_code}
    await send({**start, "headers": response.raw_headers})
    half = bytes(response.body)[: len(response.body) // 2]
    await send({"type": "http.response.body", "body": half, "more_body": True})


async def _break_off(request: Request) -> None:
    request.scope["state"][CONNECTION].abort()
    # uvicorn answers 500 for an application that said nothing, unless it knows already.
    while (await request.receive())["type"] != "http.disconnect":
        pass
