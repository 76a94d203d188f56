"""Starts the server as a process of its own: `python -m tests.server --state DIR`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from tests.server.app import LoopbackApp
from tests.server.listener import listen
from tests.server.state import State


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--state", type=Path, required=True, help="folder everything is kept in")
    parser.add_argument("--api-key", required=True)
    parser.add_argument("--entity", default="loopback", help="the key's user and only entity")
    parser.add_argument(
        "--crash-after", type=float, default=300.0, metavar="SECONDS",
        help="a running run without a heartbeat for so long is crashed",
    )  # fmt: skip
    parser.add_argument(
        "--nonfinite", choices=["token", "string"], default="token",
        help="NaN and Infinity in the history read back: as received, or as JSON strings",
    )  # fmt: skip
    parser.add_argument(
        "--exports", action="store_true",
        help="read the history of ended runs back as Parquet, not as live rows",
    )  # fmt: skip
    parser.add_argument(
        "--lag", type=float, default=0.0, metavar="SECONDS",
        help="lines received within so long are neither counted nor read back yet",
    )  # fmt: skip
    parser.add_argument(
        "--repeats", action="store_true",
        help="take history rows whose step does not rise: what is sent twice is there twice",
    )  # fmt: skip
    parser.add_argument(
        "--with-parent", action="store_true", help="end when standard input is closed"
    )
    options = parser.parse_args()
    state = State(options.state, entity=options.entity, crash_after=options.crash_after)
    app = LoopbackApp(
        state,
        api_key=options.api_key,
        nonfinite=options.nonfinite,
        exports=options.exports,
        lag=options.lag,
        repeats=options.repeats,
    )
    if options.with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        listen(app, port=options.port)
    finally:
        state.close()


def _end_with_parent() -> None:
    """A killed parent can't stop its server; its end of the pipe closes all the same."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
