"""Whether a server answers at all, asked directly: W&B's client would go on asking for minutes."""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.request
from http import HTTPStatus
from http.client import HTTPException
from urllib.parse import urlsplit

from wandbkeras.errors import RefusedError, UnreachableError

_CONNECT_SECONDS = 10.0
_GLANCE_SECONDS = 2.0


def check_reachable(base_url: str) -> None:
    """Fail in seconds, with the reason, where wandb would try again for minutes."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RefusedError(f"{base_url!r} is not a server's address: set WANDB_BASE_URL")
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY")):
        return  # the way leads through a proxy, which alone can tell
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise UnreachableError(
            f"{base_url} does not answer ({error}): sync from a machine that reaches it"
        ) from error


def told_directly(base_url: str) -> str:
    """Say whether the server puts everybody off, which wandb doesn't say while it waits."""
    try:
        urllib.request.urlopen(f"{base_url}/graphql", data=b"{}", timeout=_GLANCE_SECONDS).close()
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.TOO_MANY_REQUESTS:
            wait = error.headers.get("Retry-After")
            return f" (HTTP 429: it is to be asked again after {wait} s)" if wait else " (HTTP 429)"
    except (OSError, ValueError, HTTPException):
        pass
    return ""
