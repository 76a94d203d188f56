"""The reading side: what wandb raises never gets past it, and questions end in time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
import wandb.errors
from wandb.apis.public import Run
from wandb.proto import wandb_api_pb2
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from tests.server.process import LoopbackServer
from tests.syncing import connect
from wandbkeras.errors import (
    CredentialsError,
    RefusedError,
    SyncError,
    UnreachableError,
    WandbkerasError,
)
from wandbkeras.sync.readback import Server, _mapped, configured_base_url

URL = "http://127.0.0.1:40100"


def classes(root: type[Exception]) -> Iterator[type[Exception]]:
    """Those of ``wandb.errors``; other parts of wandb that may be loaded have their own."""
    yield root
    for child in root.__subclasses__():
        if child.__module__.startswith("wandb.errors"):
            yield from classes(child)


def failed(status: int) -> WandbApiFailedError:
    return WandbApiFailedError("no", wandb_api_pb2.ApiErrorResponse(http_status=status))


@pytest.mark.parametrize("kind", [*classes(wandb.errors.Error), OSError, ValueError, TimeoutError])
def test_every_error_of_wandb_is_mapped(kind: type[Exception]) -> None:
    """Whichever class a new wandb adds, it becomes one of ours, caused by the original."""
    with pytest.raises(SyncError) as caught, _mapped(URL):
        raise kind("told\nin two lines")
    assert type(caught.value.__cause__) is kind
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0, UnreachableError), (400, RefusedError), (401, CredentialsError), (403, RefusedError),
        (404, RefusedError), (429, UnreachableError), (500, UnreachableError),
        (503, UnreachableError),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "wrapped", [None, wandb.errors.CommError, wandb.errors.AuthenticationError]
)
def test_the_status_decides_what_an_error_means(
    status: int, expected: type[SyncError], wrapped: type[Exception] | None
) -> None:
    """Not the words, nor numbers in a URL; and not that it happened while the key was checked."""
    with pytest.raises(SyncError) as caught, _mapped(URL):
        if wrapped is None:
            raise failed(status)
        raise wrapped("Failed to verify credentials") from failed(status)
    assert type(caught.value) is expected


def test_our_own_errors_pass(tmp_path: Path) -> None:
    """What this package raises inside is not mapped again."""
    with pytest.raises(WandbkerasError) as caught, _mapped(URL):
        raise UnreachableError("as it was")
    assert str(caught.value) == "as it was"


def test_the_server_is_the_one_that_wandb_is_set_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A settings file counts, and the environment before it."""
    settings = tmp_path / "config" / "settings"
    settings.parent.mkdir()
    settings.write_text("[default]\nbase_url = https://wandb.example.org\n")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(settings.parent))
    wandb.teardown()
    assert configured_base_url() == "https://wandb.example.org"
    monkeypatch.setenv("WANDB_BASE_URL", "https://other.example.org")
    wandb.teardown()
    assert configured_base_url() == "https://other.example.org"
    wandb.teardown()


@pytest.mark.parametrize("url", ["", "api.wandb.ai", "ftp://example.org", "http://"])
def test_what_is_no_address_is_said(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a scheme or a host there is nothing to ask."""
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    with pytest.raises(WandbkerasError, match=r"address|answer"):
        Server(url)


def test_the_default_entity_is_the_keys(
    wandb_server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a run that is not there, in a project or an entity that is not there, is none."""
    connect(wandb_server, tmp_path / "home", monkeypatch)
    server = Server()
    assert server.default_entity == "loopback"
    assert server.find("loopback", "digits", "k3j9x2ab") is None
    assert list(server.rows("loopback", "digits", "k3j9x2ab", [0, 1])) == []


def test_of_two_that_announce_a_run_one_is_told_that_it_made_it(
    wandb_server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that has no way to ask for it makes the run too, and nobody is told otherwise."""
    connect(wandb_server, tmp_path / "home", monkeypatch)
    server = Server()
    assert server.announce("loopback", "digits", "k3j9x2ab")
    assert not server.announce("loopback", "digits", "k3j9x2ab")
    made: list[str] = []
    monkeypatch.setattr(Run, "create", lambda api, run_id, project, entity: made.append(run_id))
    monkeypatch.delattr(server._api, "_service_api")
    assert server.announce("loopback", "digits", "k3j9x2ab")
    assert made == ["k3j9x2ab"]
