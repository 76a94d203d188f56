"""The command ``wandbkeras``: where errors become one line and an exit code."""

from __future__ import annotations

import os
import sys

import click

import wandbkeras
from wandbkeras.errors import WandbkerasError
from wandbkeras_cli.clean import clean
from wandbkeras_cli.export import export
from wandbkeras_cli.imports import import_
from wandbkeras_cli.live import live
from wandbkeras_cli.logs import logs
from wandbkeras_cli.ls import ls
from wandbkeras_cli.output import print_json, say
from wandbkeras_cli.repair import repair
from wandbkeras_cli.show import show
from wandbkeras_cli.status import status
from wandbkeras_cli.sync import sync
from wandbkeras_cli.verify import verify

INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(wandbkeras.__version__, prog_name="wandbkeras")
def cli() -> None:
    """Record Keras training offline, replay it into Weights & Biases later.

    \b
    Example:
      wandbkeras ls runs        what is recorded, and what has arrived
      wandbkeras show k3j9x2ab  one run in detail
      wandbkeras logs k3j9x2ab  what it printed
      wandbkeras sync runs      from a machine that reaches the server
      wandbkeras status runs    what has arrived where, and what has not and why
      wandbkeras clean runs     free the disk of what has verifiably arrived
      wandbkeras verify runs    whether every byte is what was written
    """


cli.add_command(clean)
cli.add_command(export)
cli.add_command(import_)
cli.add_command(live)
cli.add_command(logs)
cli.add_command(ls)
cli.add_command(repair)
cli.add_command(show)
cli.add_command(status)
cli.add_command(sync)
cli.add_command(verify)


def main() -> None:
    """Run the command line; nothing but an exit code and one line leaves it on an error."""
    try:
        code = _run()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has gone; Python must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def _run() -> int:
    try:
        return cli.main(standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return _failed(error, error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        text = "interrupted: run the command again, it goes on where it was"
        return _failed(error, _say(text), INTERRUPTED)
    except WandbkerasError as error:
        return _failed(error, _say(str(error)), error.exit_code)
    except BrokenPipeError:
        raise
    except Exception as error:  # the command line's top: one line, an exit code
        if os.environ.get("WANDBKERAS_DEBUG"):
            raise
        text = (
            f"internal error, {type(error).__name__}: {error}: nothing was lost; set "
            "WANDBKERAS_DEBUG=1 for the traceback and report it"
        )
        return _failed(error, _say(text), INTERNAL_ERROR)


def _say(text: str) -> str:
    say(f"wandbkeras: {text}", err=True)
    return text


def _failed(error: BaseException, message: str, exit_code: int) -> int:
    """Say it to programs too, if one asked; return the exit code."""
    if "--json" in sys.argv[1:]:
        described = {
            "class": type(error).__name__,
            "message": message,
            "exit_code": exit_code,
        }
        print_json({"runs": [], "error": described, "exit_code": exit_code})
    return exit_code
