"""What of a run's surroundings is recorded, by arguments and by variables."""

from __future__ import annotations

from typing import Any

import pytest

from wandbkeras.context.switches import DEFAULT_CONSOLE_BYTES, resolve_switches
from wandbkeras.errors import UsageError
from wandbkeras.recording.settings import resolve


@pytest.mark.parametrize(
    ("given", "variables", "mode"),
    [
        (None, {}, "auto"),
        (None, {"WANDB_CONSOLE": "redirect"}, "auto"),
        (None, {"WANDB_CONSOLE": "wrap_raw"}, "wrap"),
        (None, {"WANDBKERAS_CONSOLE": "off", "WANDB_CONSOLE": "wrap"}, None),
        ("wrap", {"WANDBKERAS_CONSOLE": "off"}, "wrap"),
        (False, {}, None),
        (True, {}, "auto"),
    ],
)
def test_the_console_has_wandbs_words(given: Any, variables: dict[str, str], mode: Any) -> None:
    """An argument counts more than our variable, and that more than wandb's."""
    assert resolve_switches(variables, console=given).console == mode


@pytest.mark.parametrize("given", ["everything", 2, "wrapped"])
def test_other_words_are_refused(given: Any) -> None:
    """With what was received, and what is expected."""
    with pytest.raises(UsageError, match=f"console: received {given!r}; expected auto, wrap or"):
        resolve_switches({}, console=given)


def test_the_bytes_of_the_console_are_a_number_or_text() -> None:
    """A million at least, so that a long line has room."""
    nothing = dict.fromkeys(
        ("project", "entity", "directory", "id", "name", "group", "job_type", "tags", "notes",
         "resume", "mode"),
    )  # fmt: skip

    def bytes_of(value: Any, **environ: str) -> int:
        found = resolve(created=1.0, environ=environ, console_max_bytes=value, **nothing)
        return found.switches.console_max_bytes

    assert bytes_of(None) == DEFAULT_CONSOLE_BYTES
    assert bytes_of("5MB", WANDBKERAS_CONSOLE_MAX_BYTES="7MB") == 5_000_000
    assert bytes_of(None, WANDBKERAS_CONSOLE_MAX_BYTES="7MB") == 7_000_000
    for value in (999_999, "much", 1.5):
        with pytest.raises(UsageError, match="console_max_bytes: received"):
            bytes_of(value)
