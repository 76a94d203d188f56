"""The server as a process that a test or the demo holds: started, stopped, killed, restarted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

from tests.server import snapshot
from tests.server.faults import Action
from tests.server.snapshot import ArtifactSnapshot, RequestLine, RunSnapshot, Violation

ROOT = Path(__file__).parents[2]
API_KEY = "10b0ac4" + "0" * 33  # wandb refuses keys shorter than 40 characters
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class LoopbackServer:
    """A running server, and everything it received.

    What it received is read from its state directory, so it can be read after a kill too.
    """

    def __init__(
        self,
        directory: Path,
        *,
        api_key: str = API_KEY,
        entity: str = "loopback",
        crash_after_s: float = 300.0,
        nonfinite: Literal["token", "string"] = "token",
        exports: bool = False,
        lag_s: float = 0.0,
        repeats: bool = False,
    ) -> None:
        """`exports`: ended runs' history reads back as Parquet; `nonfinite`: how NaN reads back
        in live history; `lag_s`: how far the server's counts and rows are behind;
        `repeats`: rows that are sent twice are there twice, as on the real server."""
        self.directory = directory
        self.api_key = api_key
        self.entity = entity
        self.port = 0
        self.violations_expected = False
        self._options = [
            f"--entity={entity}",
            f"--crash-after={crash_after_s}",
            f"--nonfinite={nonfinite}",
            f"--lag={lag_s}",
            "--with-parent",
            *(["--exports"] if exports else []),
            *(["--repeats"] if repeats else []),
        ]
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # --- the process ----------------------------------------------------------------------

    def start(self) -> LoopbackServer:
        """Returns when it listens; on the same port as before, if there was one."""
        assert self._process is None, "already running"
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._log() as log:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-m", "tests.server",
                    f"--port={self.port}", f"--state={self.directory}",
                    f"--api-key={self.api_key}", *self._options,
                ],
                cwd=ROOT, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.PIPE, text=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("listening on "):
            self.kill()
            raise RuntimeError(f"the loopback server did not start: {self.log()}")
        self.port = int(line.rsplit(":", 1)[1])
        return self

    def stop(self) -> None:
        """Asks it to end, and waits until it has."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: it has no time to do anything."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Starts it again on the same port with what it held; the faults are gone."""
        if self._process is not None:
            self.stop()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            assert self._process.stdout is not None
            assert self._process.stdin is not None
            self._process.stdout.close()
            self._process.stdin.close()
            self._process = None

    def __enter__(self) -> LoopbackServer:
        return self.start() if self._process is None else self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def _log(self) -> IO[str]:
        return (self.directory / "server.log").open("a")

    def log(self) -> str:
        """What the server printed on stderr: its own errors."""
        return (self.directory / "server.log").read_text()

    # --- its clients ----------------------------------------------------------------------

    def environ(self, home: Path) -> dict[str, str]:
        """The environment for a wandb client that touches nothing outside `home`."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("WANDB_") and name.lower() not in PROXIES
        }
        return inherited | {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": self.api_key,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_SILENT": "true",
            "WANDB_CONSOLE": "off",
            "WANDB_DIR": str(home),
            "WANDB_CACHE_DIR": str(home / ".cache" / "wandb"),
            "WANDB_CONFIG_DIR": str(home / ".config" / "wandb"),
            "WANDB_DATA_DIR": str(home / ".local" / "share" / "wandb"),
            "WANDB_ARTIFACT_DIR": str(home / "artifacts"),
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "XDG_DATA_HOME": str(home / ".local" / "share"),
            "NO_PROXY": "*",
        }

    # --- faults ---------------------------------------------------------------------------

    def add_fault(
        self,
        action: Action,
        *,
        kind: str | None = None,
        path: str | None = None,
        operation: str | None = None,
        status: int | None = None,
        seconds: float | None = None,
        headers: Mapping[str, str] | None = None,
        times: int | None = None,
    ) -> None:
        """From now on the requests that match are answered with `status`, have their connection
        closed unread (`close`), are handled but never answered (`lose`) or in half (`cut`), or wait
        for some seconds (`delay`) or until the faults are cleared or `times` of them wait (`hold`).

        `times` None is for ever; `path` is a shell pattern.
        """
        match = {"kind": kind, "path": path, "operation": operation}
        rule = {"status": status, "seconds": seconds, "headers": headers, "times": times}
        self._administer(
            "POST",
            {
                "match": {name: value for name, value in match.items() if value is not None},
                "action": action,
                **{name: value for name, value in rule.items() if value is not None},
            },
        )

    def clear_faults(self) -> None:
        self._administer("DELETE")

    def _administer(self, method: str, rule: dict[str, Any] | None = None) -> None:
        request = urllib.request.Request(
            f"{self.url}/_loopback/faults",
            method=method,
            data=None if rule is None else json.dumps(rule).encode(),
        )
        # An opener of its own: a proxy in the environment is none of loopback's business.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request) as answer:
            assert answer.status == 204

    # --- what it received -----------------------------------------------------------------

    def violations(self) -> list[Violation]:
        """What a client did that no correct client does, in order."""
        return snapshot.violations(self.directory)

    def expect_violations(self) -> None:
        """This test provokes violations: the fixture does not complain about them."""
        self.violations_expected = True

    def requests(self) -> list[RequestLine]:
        """Every request, in order; also those that were refused."""
        return snapshot.requests(self.directory)

    def run(self, entity: str, project: str, run_id: str) -> RunSnapshot:
        """All of one run; LookupError when the server holds none."""
        return snapshot.run(self.directory, entity, project, run_id)

    def run_ids(self, entity: str, project: str) -> list[str]:
        """The ids of a project's runs, the oldest first."""
        return snapshot.run_ids(self.directory, entity, project)

    def artifacts(self, entity: str, project: str, name: str) -> list[ArtifactSnapshot]:
        """The versions of one artifact, v0 first, and after them those never committed."""
        return snapshot.artifacts(self.directory, entity, project, name)
