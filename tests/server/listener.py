"""The socket side: uvicorn on a loopback port, with the connection within the application's reach
so that a fault can break it off."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTION = "wandb_loopback_connection"


class ConnectionInScope(H11Protocol):
    """h11 as uvicorn speaks it; the transport is in the ASGI scope's state."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.app_state = {**self.app_state, CONNECTION: transport}
        super().connection_made(transport)  # type: ignore[arg-type]


class AnnouncingServer(uvicorn.Server):
    """Says on stdout that it listens, when it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets is not None
        host, port = sockets[0].getsockname()
        print(f"listening on http://{host}:{port}", flush=True)


def listen(app: Any, *, port: int) -> None:
    """Serves until a signal."""
    # With its protocol named, asyncio sets TCP_NODELAY. Without, each small answer, whose headers
    # and body are sent one after the other, waits 40 ms for the client's acknowledgement.
    server = socket.socket(proto=socket.IPPROTO_TCP)
    # A killed server comes back on the same port at once.
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    config = uvicorn.Config(
        app,
        http=ConnectionInScope,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    AnnouncingServer(config).run(sockets=[server])
