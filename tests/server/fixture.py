"""The pytest side: a fresh server for a test, and no violation left unsaid at its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.process import LoopbackServer

__all__ = ["LoopbackServer", "wandb_server"]


@pytest.fixture
def wandb_server(tmp_path: Path) -> Iterator[LoopbackServer]:
    """A server of its own for the test; at the end no violation may have been recorded, unless
    the test said `expect_violations()`."""
    server = LoopbackServer(tmp_path / "wandb-server")
    with server.start():
        yield server
    if not server.violations_expected:
        assert server.violations() == []
    assert "Traceback" not in server.log(), server.log()
