"""The command ``wandbkeras``: where errors become one line and an exit code."""

from __future__ import annotations

import os
import sys

import click

import wandbkeras
from wandbkeras.errors import WandbkerasError
from wandbkeras_cli.ls import ls
from wandbkeras_cli.sync import sync

INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(wandbkeras.__version__, prog_name="wandbkeras")
def cli() -> None:
    """Record Keras training offline, replay it into Weights & Biases later.

    \b
    Example:
      wandbkeras ls runs        what is recorded, and what has arrived
      wandbkeras sync runs      from a machine that reaches the server
    """


cli.add_command(ls)
cli.add_command(sync)


def main() -> None:
    """Run the command line; nothing but an exit code and one line leaves it on an error."""
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted: run the command again, it goes on where it was")
        code = INTERRUPTED
    except WandbkerasError as error:
        _say(str(error))
        code = error.exit_code
    except BrokenPipeError:
        # The reader of our output has gone; Python must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:  # the command line's top: one line, an exit code
        if os.environ.get("WANDBKERAS_DEBUG"):
            raise
        _say(
            f"internal error, {type(error).__name__}: {error}: nothing was lost; set "
            "WANDBKERAS_DEBUG=1 for the traceback and report it"
        )
        code = INTERNAL_ERROR
    sys.exit(code or 0)


def _say(text: str) -> None:
    click.echo(f"wandbkeras: {text}", err=True)
