"""The command line. Each file beside this one is one section of it."""

from __future__ import annotations

import os
import sys
import traceback

import click

from tollkeeper.app.cli.commands import Commands
from tollkeeper.app.cli.exit_codes import BUG, INTERRUPTED, USAGE, code_of
from tollkeeper.errors import TollkeeperError

NAME = "tollkeeper"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tollkeeper", prog_name=NAME)
def cli() -> None:
    """Meter token usage, prove the numbers.

    \b
    A first round, without any server:
      tollkeeper org open acme --plan enterprise_self_serve --owner ann
      tollkeeper credits buy acme 100
      tollkeeper emit usage.jsonl
      tollkeeper consume --until-caught-up
      tollkeeper spend acme --by member
    """


def main() -> None:
    """Run the command line; every error ends in its exit code and a line that says what to do."""
    try:
        cli.main(prog_name=NAME, standalone_mode=False)
    except click.ClickException as misuse:
        misuse.show()
        sys.exit(USAGE)
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader (head, less) has enough: nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except TollkeeperError as error:
        _say(str(error))
        sys.exit(code_of(error))
    except Exception as bug:  # noqa: BLE001  # the last resort: a user never sees a bare traceback
        _say(f"a bug in Tollkeeper: {type(bug).__name__}: {bug}")
        if os.environ.get("TOLLKEEPER_DEBUG"):
            traceback.print_exception(bug)
        else:
            _say("set TOLLKEEPER_DEBUG=1 to see where")
        sys.exit(BUG)


def _say(text: str) -> None:
    """On standard error, red where that is a terminal."""
    click.secho(text, err=True, fg="red")
