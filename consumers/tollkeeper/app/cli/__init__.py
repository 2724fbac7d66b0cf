"""The command line. Each file beside this one is one section of it."""

from __future__ import annotations

import os
import sys
import traceback
from importlib.metadata import version

import click

from tollkeeper.app.cli.figures import figure_commands
from tollkeeper.app.cli.organizations import organization_commands
from tollkeeper.app.cli.output import AWAY, BUG, REFUSED, USAGE, err
from tollkeeper.app.cli.prices import prices
from tollkeeper.app.cli.replay import replay_commands
from tollkeeper.app.cli.running import running_commands
from tollkeeper.app.cli.usage import usage_commands
from tollkeeper.errors import Halted, InvalidInput, TollkeeperError, Unavailable

INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("tollkeeper"), prog_name="tollkeeper")
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


for command in (
    *running_commands,
    *organization_commands,
    *usage_commands,
    *figure_commands,
    prices,
    *replay_commands,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; every error ends in its exit code and a line that says what to do."""
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as misuse:
        misuse.show()
        sys.exit(USAGE)
    except (click.Abort, KeyboardInterrupt):
        err().print("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader (head, less) has enough: nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except TollkeeperError as error:
        sys.exit(_end(error))
    except Exception as bug:  # noqa: BLE001  # the last resort: a user never sees a bare traceback
        err().print(f"a bug in Tollkeeper: {type(bug).__name__}: {bug}", style="red")
        if os.environ.get("TOLLKEEPER_DEBUG"):
            traceback.print_exception(bug)
        else:
            err().print("set TOLLKEEPER_DEBUG=1 to see where")
        sys.exit(BUG)


def _end(error: TollkeeperError) -> int:
    err().print(str(error), style="red")
    match error:
        case InvalidInput():
            return USAGE
        case Unavailable():
            return AWAY
        case Halted():
            return REFUSED
        case _:
            return BUG
