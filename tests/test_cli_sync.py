"""``wandbkeras sync``: its documents, and one clear line with its exit code for each trouble."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.process import LoopbackServer
from tests.syncing import command, held, printed
from wandbkeras import Run
from wandbkeras.store import document


@pytest.fixture
def finished(start: Callable[..., Run], tmp_path: Path) -> Path:
    run = start(project="digits", id="k3j9x2ab")
    run.log({"loss": 1.0})
    (tmp_path / "f").write_text("x")
    run.log_artifact(tmp_path / "f", name="data")
    run.finish()
    return Path(run.dir or "")


@pytest.fixture
def env(wandb_server: LoopbackServer, tmp_path: Path) -> dict[str, str]:
    return wandb_server.environ(tmp_path / "home")


def assert_refused(done: subprocess.CompletedProcess[str], code: int, *texts: str) -> Any:
    """One line on standard error with the texts, the exit code there and in the document."""
    assert done.returncode == code, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("wandbkeras: ")
    assert [text for text in texts if text not in line] == []
    found = printed(done)
    assert found["exit_code"] == code
    errors = [found["error"]] if "error" in found else [run["error"] for run in found["runs"]]
    assert [error["exit_code"] for error in errors] == [code]
    assert errors[0]["message"] in line
    return found


def test_a_verified_run_is_a_line(finished: Path, env: dict[str, str]) -> None:
    """What was found there, where it is and what was sent; again, that nothing is to be sent."""
    first, second = command("sync", finished, env=env), command("sync", finished, env=env)
    url = f"{env['WANDB_BASE_URL']}/loopback/digits/runs/k3j9x2ab"
    assert (first.returncode, first.stderr, second.returncode) == (0, "", 0)
    assert first.stdout.startswith("k3j9x2ab: verified: 1 row, 1 artifact version")
    assert (url in first.stdout, "1 row sent" in first.stdout) == (True, True)
    assert second.stdout.startswith("k3j9x2ab: nothing to send: 1 row")


def test_the_document_of_a_verified_run(finished: Path, env: dict[str, str]) -> None:
    """Counts of what was sent and verified, and the receipt's state and address."""
    found = printed(command("sync", finished.parent, "--json", env=env))
    (run,) = found["runs"]
    assert found["exit_code"] == 0
    assert 0 < run.pop("seconds") < 60
    expected = {
        "path": str(finished), "run_id": "k3j9x2ab", "outcome": "verified", "state": "finished",
        "url": f"{env['WANDB_BASE_URL']}/loopback/digits/runs/k3j9x2ab", "rows_sent": 1,
        "rows_verified": 1, "artifacts_sent": 1, "artifacts_verified": 1, "error": None,
        "destination": {
            "server": env["WANDB_BASE_URL"], "entity": None, "project": "digits",
            "run_id": "k3j9x2ab",
        },
    }  # fmt: skip
    assert {key: run[key] for key in expected} == expected
    (again,) = printed(command("sync", finished, "--json", env=env))["runs"]
    assert (again["outcome"], again["rows_sent"], again["rows_verified"]) == ("unchanged", 0, 1)


def test_entity_and_project_can_be_chosen(
    finished: Path, env: dict[str, str], wandb_server: LoopbackServer
) -> None:
    """The options replace what was recorded."""
    done = command("sync", finished, "-e", "loopback", "-p", "other", env=env)
    assert done.returncode == 0
    assert len(held(wandb_server, "k3j9x2ab", project="other").rows) == 1


@pytest.mark.parametrize("name", ["ls", "sync"])
@pytest.mark.parametrize("what", ["missing", "a file", "empty", "without runs"])
def test_what_is_no_store(what: str, name: str, tmp_path: Path) -> None:
    """No such directory, a file, an empty directory, one with other things in it."""
    path = tmp_path / what
    if what == "a file":
        path.write_text("")
    elif what != "missing":
        path.mkdir()
        if what == "without runs":
            (path / "run-20261123_054500-k3j9x2ab").mkdir()
    text = {"missing": "no such directory", "a file": "a file"}.get(what, "no run in it")
    found = assert_refused(command(name, path, "--json"), 3, str(path), text, "expected")
    assert found["runs"] == []


@pytest.mark.parametrize("name", ["ls", "sync"])
@pytest.mark.parametrize(("what", "code"), [("damaged", 4), ("newer", 5)])
def test_what_can_not_be_read(
    what: str, code: int, name: str, finished: Path, env: dict[str, str]
) -> None:
    """A damaged run and one of a newer format version, by both commands."""
    info = finished / "run.json"
    if what == "newer":
        info.write_bytes(document.encode({**document.read(info), "version": 2}))
        text = "use a newer wandbkeras"
    else:
        info.write_bytes(info.read_bytes().replace(b"digits", b"digitz"))
        text = "checksum"
    done = command(name, finished, "--json", env=env)
    assert done.returncode == code
    (line,) = done.stderr.splitlines()
    # What `ls` can read of a damaged run it lists, so that its damage is said of the run.
    assert str(info) in line or line.startswith("k3j9x2ab: damaged: run.json: ")
    assert text in line
    assert printed(done)["exit_code"] == code


@pytest.mark.parametrize(
    ("change", "code", "texts"),
    [
        ({"WANDB_API_KEY": ""}, 8, ["no key for", "wandb login"]),
        ({"WANDB_API_KEY": "f" * 40}, 8, ["refuses the key", "not logged in"]),
        ({"WANDB_API_KEY": "short"}, 8, ["API key must have 40+ characters"]),
        ({"WANDB_BASE_URL": "http://127.0.0.1:1"}, 7, ["http://127.0.0.1:1 does not answer"]),
        ({"WANDB_BASE_URL": "http://no.host.invalid"}, 7, ["does not answer"]),
        ({"WANDB_BASE_URL": "api.wandb.ai"}, 2, ["wandb's settings", "valid URL"]),
    ],
)
def test_a_server_that_is_not_to_be_had(
    change: dict[str, str], code: int, texts: list[str], finished: Path, env: dict[str, str]
) -> None:
    """No key, a wrong one, no server, no address."""
    assert_refused(command("sync", finished, "--json", env=env | change), code, *texts)


def test_a_key_of_netrc_will_do(
    finished: Path, env: dict[str, str], wandb_server: LoopbackServer
) -> None:
    """Credentials are wandb's own: what `wandb login` wrote is used."""
    key = env.pop("WANDB_API_KEY")
    home = Path(env["HOME"])
    home.mkdir()
    machine = f"127.0.0.1:{wandb_server.port}"
    (home / ".netrc").write_text(f"machine {machine}\n  login user\n  password {key}\n")
    (home / ".netrc").chmod(0o600)
    assert command("sync", finished, env=env).returncode == 0
    assert len(held(wandb_server, "k3j9x2ab").rows) == 1


@pytest.mark.parametrize("status", [500, 429])
def test_a_server_that_answers_nothing_useful(
    status: int, finished: Path, env: dict[str, str], wandb_server: LoopbackServer
) -> None:
    """It is asked three times, not for minutes, and no key is blamed for it."""
    wandb_server.add_fault("status", status=status)
    done = command("sync", finished, "--json", env=env)
    assert_refused(done, 7, f"HTTP {status}", "try again later")


@pytest.mark.parametrize(
    "arguments", [["-p", "a/b"], ["-p", "x" * 129], ["-p", " "], ["-e", "../x"], ["-e", ""]]
)
def test_names_that_wandb_refuses(
    arguments: list[str], finished: Path, env: dict[str, str], wandb_server: LoopbackServer
) -> None:
    """They are refused before anyone is asked."""
    done = command("sync", finished, *arguments, "--json", env=env)
    found = assert_refused(done, 2, repr(arguments[1]))
    assert (found["runs"], wandb_server.requests()) == ([], [])


def test_an_entity_that_the_server_refuses(finished: Path, env: dict[str, str]) -> None:
    """What only the server can know has the exit code of a refusal."""
    done = command("sync", finished, "-e", "nobody", "--json", env=env)
    found = assert_refused(done, 9, "/nobody/digits/k3j9x2ab", "entity nobody not found")
    assert found["runs"][0]["destination"] == {
        "server": env["WANDB_BASE_URL"], "entity": "nobody", "project": "digits",
        "run_id": "k3j9x2ab",
    }  # fmt: skip


@pytest.mark.parametrize(
    "arguments", [["--bogus"], ["--timeout", "0"], ["--timeout", "soon"], ["--state-dir"]]
)
def test_options_that_are_wrong(arguments: list[str], finished: Path) -> None:
    """Usage is said as click says it, and is a document too."""
    done = command("sync", finished, "--json", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert arguments[0] in done.stderr
    assert printed(done)["error"]["exit_code"] == 2


def test_one_unreadable_run_among_good_ones(
    start: Callable[..., Run], finished: Path, env: dict[str, str], wandb_server: LoopbackServer
) -> None:
    """The others arrive, the document has all three, and the gravest exit code wins."""
    infos = []
    for run_id in ("newer", "damaged"):
        run = start(project="digits", id=run_id)
        run.finish()
        infos.append(Path(run.dir or "") / "run.json")
    newer, damaged = infos
    newer.write_bytes(document.encode({**document.read(newer), "version": 2}))
    damaged.write_bytes(b"{}")
    done = command("sync", finished.parent, "--json", env=env)
    found = printed(done)
    assert (done.returncode, found["exit_code"]) == (4, 4)
    assert sorted(run["outcome"] for run in found["runs"]) == ["failed", "failed", "verified"]
    assert len(done.stderr.splitlines()) == 2
    assert len(held(wandb_server, "k3j9x2ab").rows) == 1
