"""What can be said to ``wandbkeras sync``, and the options of the engine that it means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wandbkeras.store.names import check_entity, check_project, check_tag, check_title

if TYPE_CHECKING:
    from wandbkeras.sync.options import Options

_TITLES = ("name", "group", "job_type")
_OPTIONS = (
    click.option("-e", "--entity", help="Send to this entity instead of the recorded one."),
    click.option("-p", "--project", help="Send to this project instead of the recorded one."),
    click.option("--name", help="Give the run this name instead of the recorded one."),
    click.option("--group", help="Instead of the recorded group."),
    click.option("--job-type", help="Instead of the recorded job type."),
    click.option("--tag", "tags", multiple=True, help="Instead of the recorded tags; repeatable."),
    click.option("--notes", help="Instead of the recorded notes."),
    click.option("--no-artifacts", is_flag=True, help="Send no artifacts."),
    click.option(
        "--only",
        type=click.Choice(["metrics"]),
        help="Send history, summary and config, neither artifacts nor files.",
    ),
    click.option(
        "--keys",
        multiple=True,
        metavar="PATTERN",
        help="Send only the metrics of these names; repeatable.",
    ),
    click.option(
        "--redact",
        multiple=True,
        metavar="KEY",
        help="Replace this config value before it leaves the machine; repeatable.",
    ),
    click.option(
        "--verify",
        "level",
        type=click.Choice(["full", "sample", "counts"]),
        default="sample",
        show_default=True,
        help="How rows are compared: all; of more than 250,000 a sample; only their number.",
    ),
    click.option(
        "--on-conflict",
        type=click.Choice(["fail", "new-id"]),
        default="fail",
        show_default=True,
        help="If the server holds something else under the run's id.",
    ),
    click.option(
        "--on-deleted",
        type=click.Choice(["fail", "skip", "recreate"]),
        default="fail",
        show_default=True,
        help="If the run was deleted on the server; recreate takes a new id.",
    ),
    click.option(
        "--on-rollback",
        type=click.Choice(["fail", "fresh-id"]),
        default="fail",
        show_default=True,
        help="If the server holds rows that a later attempt of the run has replaced.",
    ),
    click.option("--check", is_flag=True, help="Ask the server even where a receipt proves."),
    click.option(
        "-n",
        "workers",
        type=click.IntRange(1, 64),
        default=4,
        show_default=True,
        help="How many uploads go on at a time.",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=1),
        default=300.0,
        show_default=True,
        help="Seconds a run may take to arrive.",
    ),
)


def sync_options(command: Any) -> Any:
    """Add the options to the command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def options_of(said: Mapping[str, Any], state_directory: Path | None) -> Options:
    """Return the engine's options; UsageError for a name that W&B refuses."""
    # The engine's module knows wandb, which takes a second to import: only sync waits for it.
    from wandbkeras.sync.choice import Choice
    from wandbkeras.sync.options import Options

    for argument in _TITLES:
        check_title(argument, said[argument] or "")
    if said["entity"] is not None:
        check_entity(said["entity"])
    if said["project"] is not None:
        check_project(said["project"])
    metrics_only = said["only"] == "metrics"
    return Options(
        entity=said["entity"],
        project=said["project"],
        timeout_s=said["timeout"],
        state_directory=state_directory,
        level=said["level"],
        check=said["check"],
        workers=said["workers"],
        on_conflict=said["on_conflict"],
        on_deleted=said["on_deleted"],
        on_rollback=said["on_rollback"],
        choice=Choice(
            artifacts=not (said["no_artifacts"] or metrics_only),
            files=not metrics_only,
            keys=tuple(said["keys"]),
            redact=tuple(said["redact"]),
            tags=tuple(map(check_tag, said["tags"])) or None,
            notes=said["notes"],
            **{argument: said[argument] for argument in _TITLES},
        ),
    )
