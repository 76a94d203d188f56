"""The arguments of ``init``: from the call, else from wandb's variables; each is checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wandbkeras
from wandbkeras.errors import UsageError
from wandbkeras.recording.settings import resolve
from wandbkeras.store.reader import StoredRun
from wandbkeras.store.schema import RunInfo

Start = Callable[..., wandbkeras.Run]
Stored = Callable[[wandbkeras.Run], StoredRun]


def test_the_arguments_are_what_run_json_says(start: Start, stored: Stored) -> None:
    """Everything that ``init`` was told comes back from the run on disk."""
    run = start(
        project="digits",
        entity="team-1",
        id="k3j9x2ab",
        name="first try",
        group="g",
        job_type="train",
        tags=["a", "b", "a"],
        notes="long " * 100,
    )
    info = stored(run).info
    assert info == RunInfo(
        id="k3j9x2ab",
        created=info.created,
        project="digits",
        entity="team-1",
        name="first try",
        group="g",
        job_type="train",
        tags=("a", "b"),
        notes="long " * 100,
        host=info.host,
    )
    for name in ("id", "project", "entity", "name", "group", "job_type", "tags", "notes"):
        assert getattr(run, name) == getattr(info, name)


def test_without_arguments_a_run_has_an_id_and_nothing_else(start: Start, stored: Stored) -> None:
    """The name shown is the id where none was given."""
    run = start()
    info = stored(run).info
    assert len(run.id) == 8
    assert run.name == run.id
    assert info == RunInfo(id=run.id, created=info.created, host=info.host)


VARIABLES = {
    "WANDB_PROJECT": ("project", "digits", "digits"),
    "WANDB_ENTITY": ("entity", "team-1", "team-1"),
    "WANDB_RUN_ID": ("id", "k3j9x2ab", "k3j9x2ab"),
    "WANDB_NAME": ("name", "first try", "first try"),
    "WANDB_RUN_GROUP": ("group", "g", "g"),
    "WANDB_JOB_TYPE": ("job_type", "train", "train"),
    "WANDB_TAGS": ("tags", "a,b,,a", ("a", "b")),
    "WANDB_NOTES": ("notes", "n", "n"),
}


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_variable_stands_in_for_an_argument(
    start: Start, stored: Stored, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """An argument that is not given is taken from wandb's variable."""
    name, text, value = VARIABLES[variable]
    monkeypatch.setenv(variable, text)
    assert getattr(stored(start()).info, name) == value


@pytest.mark.parametrize("variable", VARIABLES)
def test_an_argument_goes_before_its_variable(
    start: Start, stored: Stored, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """What the script says counts."""
    name, text, _ = VARIABLES[variable]
    monkeypatch.setenv(variable, text)
    own: Any = ["own"] if name == "tags" else "own"
    found = getattr(stored(start(**{name: own})).info, name)
    assert found == (("own",) if name == "tags" else "own")


@pytest.mark.parametrize("variable", VARIABLES)
def test_an_empty_variable_says_nothing(
    start: Start, stored: Stored, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """A variable that is set to nothing is as one that is not set."""
    monkeypatch.setenv(variable, "")
    info = stored(start()).info
    assert info == RunInfo(id=info.id, created=info.created, host=info.host)


def test_the_store_is_the_argument_the_variable_or_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``dir``, then ``WANDB_DIR``, then ``runs``; missing directories are made."""
    monkeypatch.chdir(tmp_path)
    with wandbkeras.init() as run:
        assert Path(run.dir or "").parent == tmp_path / "runs"
    monkeypatch.setenv("WANDB_DIR", "a/b")
    with wandbkeras.init() as run:
        assert Path(run.dir or "").parent == tmp_path / "a" / "b"
    with wandbkeras.init(dir=str(tmp_path / "c")) as run:
        assert Path(run.dir or "").parent == tmp_path / "c"


def test_the_run_directory_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that changes its working directory goes on recording where it began."""
    monkeypatch.chdir(tmp_path)
    run = wandbkeras.init(dir="runs")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run.log({"a": 1})
    run.finish()
    assert StoredRun(run.dir or "").summary == {"a": 1}


@pytest.mark.parametrize(
    ("variables", "arguments", "mode", "live_timeout_s"),
    [
        ({}, {}, "offline", 60.0),
        ({"WANDB_MODE": "online"}, {}, "offline", 60.0),
        ({"WANDBKERAS_MODE": "live", "WANDBKERAS_LIVE_TIMEOUT": "5.5"}, {}, "live", 5.5),
        ({"WANDBKERAS_MODE": "offline"}, {"mode": "live", "live_timeout": 0}, "live", 0.0),
        ({}, {"mode": "online"}, "live", 60.0),
    ],
)
def test_live_mode_is_asked_for_by_our_own_name(
    variables: dict[str, str], arguments: dict[str, Any], mode: str, live_timeout_s: float
) -> None:
    """wandb's word means it in the call, but its variable sends nothing anywhere."""
    nothing = dict.fromkeys(
        ("project", "entity", "directory", "id", "name", "group", "job_type", "tags", "notes",
         "resume", "mode")
    )  # fmt: skip
    found = resolve(created=0.0, environ=variables, **{**nothing, **arguments})
    assert (found.mode, found.live_timeout_s) == (mode, live_timeout_s)


@pytest.mark.parametrize(
    ("variables", "disabled"),
    [
        ({}, False),
        ({"WANDB_MODE": "online"}, False),
        ({"WANDB_MODE": "offline"}, False),
        ({"WANDB_MODE": "disabled"}, True),
        ({"WANDBKERAS_MODE": "disabled"}, True),
        ({"WANDBKERAS_MODE": "offline", "WANDB_MODE": "disabled"}, False),
    ],
)
def test_the_environment_may_disable(
    start: Start, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], disabled: bool
) -> None:
    """wandb's ``online`` means recording here; ``disabled`` means what it says."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert start().disabled is disabled


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"project": "a/b"}, r"project 'a/b': W&B takes 1 to 128 characters, none of"),
        ({"project": "p" * 129}, "project 'ppp"),
        ({"project": "  "}, "project '  '"),
        ({"project": 5}, "project 5"),
        ({"entity": "a team"}, "entity 'a team': expected a W&B user or team"),
        ({"entity": 5}, "entity 5"),
        ({"id": "a/b"}, "run id 'a/b': expected 1 to 64"),
        ({"id": ".."}, r"run id '\.\.'"),
        ({"id": "a" * 65}, "run id 'aaa"),
        ({"id": "a\n"}, "run id"),
        ({"id": 5}, "run id 5"),
        ({"name": "n" * 129}, "name: received 129 characters; W&B takes 128 at most"),
        ({"name": 5}, "name: received int; expected a string"),
        ({"name": "\ud800"}, "name: .* not valid Unicode"),
        ({"group": 5}, "group: received int"),
        ({"job_type": 5}, "job_type: received int"),
        ({"notes": 5}, "notes: received int"),
        ({"notes": "\ud800"}, "notes: .* not valid Unicode"),
        ({"tags": ["a" * 65]}, "tag 'aaa"),
        ({"tags": [""]}, "tag ''"),
        ({"tags": [5]}, "tags: received 5; expected strings"),
        ({"resume": "maybe"}, "resume 'maybe': expected one of allow, must, never, auto"),
        ({"mode": "shared"}, "mode 'shared': expected one of offline, live, disabled"),
        (
            {"live_timeout": -1},
            "live_timeout: received -1; expected a number of seconds, 0 or more",
        ),
        ({"live_timeout": "soon"}, "live_timeout: received 'soon'"),
    ],
)
def test_a_wrong_argument_is_named(
    start: Start, store: Path, arguments: dict[str, Any], message: str
) -> None:
    """One clear message before anything is recorded; no run is left behind."""
    with pytest.raises(UsageError, match=message):
        start(**arguments)
    assert wandbkeras.run is None
    assert not store.exists() or list(store.iterdir()) == []


def test_a_single_tag_is_one_tag(start: Start) -> None:
    """A string is not taken apart."""
    assert start(tags="demo").tags == ("demo",)
