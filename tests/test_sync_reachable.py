"""Asking a server directly, without W&B's client, why it does not answer that one."""

from __future__ import annotations

import pytest

from tests.server.process import LoopbackServer
from wandbkeras.errors import RefusedError, UnreachableError
from wandbkeras.sync.reachable import check_reachable, told_directly


def test_a_port_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said at once; through a proxy, which alone could tell, nothing is."""
    with pytest.raises(UnreachableError, match="does not answer"):
        check_reachable("http://127.0.0.1:1")
    assert told_directly("http://127.0.0.1:1") == ""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    check_reachable("http://127.0.0.1:1")


@pytest.mark.parametrize("url", ["", "api.wandb.ai", "ftp://example.org", "http://"])
def test_what_is_no_address(url: str) -> None:
    """There is nothing to ask."""
    with pytest.raises(RefusedError, match="address"):
        check_reachable(url)


def test_a_server_that_puts_everybody_off(wandb_server: LoopbackServer) -> None:
    """It tells until when, if it wants to; one that answers as ever has nothing to tell."""
    check_reachable(wandb_server.url)
    assert told_directly(wandb_server.url) == ""
    wandb_server.add_fault("status", status=429, times=1)
    assert told_directly(wandb_server.url) == " (HTTP 429)"
    wandb_server.add_fault("status", status=429, headers={"Retry-After": "600"})
    assert told_directly(wandb_server.url) == " (HTTP 429: it is to be asked again after 600 s)"
