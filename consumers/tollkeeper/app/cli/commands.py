"""Which commands there are, and which file beside this one each stands in.

The files are imported when a command of theirs runs: importing all of them takes longer than most
commands do, and `--help` needs none.
"""

from __future__ import annotations

from importlib import import_module

import click

SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Running": {
        "setup": ("running", "Make the log, the tables and the built-in prices."),
        "doctor": ("running", "What is configured, reachable and lagging."),
        "run": ("background", "Run the background jobs until SIGTERM or SIGINT."),
        "consume": ("background", "Fold the log into the ledger."),
        "backup": ("running", "Copy the embedded log into a file."),
    },
    "Organizations": {
        "org": ("organizations", "Open organizations, and say who belongs to them."),
        "credits": ("organizations", "Prepaid credits of self-serve organizations."),
        "cap": ("organizations", "Spend caps of a billing period."),
    },
    "Usage": {
        "emit": ("usage", "Accept the usage in a file."),
        "event": ("usage", "Where is my event?"),
        "events": ("usage", "The charged events behind a figure."),
        "dead-letters": ("letters", "Records that weren't folded, with their bytes and cause."),
    },
    "Figures": {
        "balance": ("figures", "Prepaid credits: bought, used, left."),
        "spend": ("figures", "What an organization was charged in a billing period."),
        "status": ("standing", "Each limit: what is spent, held and left, and when it lifts."),
        "invoice": ("figures", "Usage invoices and statements."),
    },
    "The gate": {
        "hold": ("holds", "Reserve money for a call, or hear every reason against it."),
        "release": ("holds", "Free a hold whose call was never made."),
        "holds": ("holds", "Money that is reserved for calls under way."),
        "gate": ("gate", "Watch the gate; say what happens when it can't know."),
        "emitters": ("emitters", "Who may hold money; retire who is gone."),
        "reconcile": ("reconciling", "Compare Redis with the ledger."),
    },
    "Notifications": {
        "alerts": ("alerts", "When owners and admins are told of spend."),
        "notifications": ("alerts", "What an organization was told, and where usage is stopped."),
        "webhook": ("webhooks", "Where notifications go."),
    },
    "Prices": {
        "prices": ("prices", "List, publish and withdraw prices."),
    },
    "Replay": {
        "replay": ("replay", "Prove the figures by folding history again."),
        "rebuild": ("replay", "Fold history anew, and put the result in the ledger's place."),
    },
}
"""Section, command, its file and what `--help` says of it; in the order of that help."""

PLACES = {name: place for section in SECTIONS.values() for name, (place, _) in section.items()}


class Commands(click.Group):
    """A group that imports a command's file when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name."""
        return list(PLACES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; None when there is none."""
        if cmd_name not in PLACES:
            return None
        module = import_module(f"tollkeeper.app.cli.{PLACES[cmd_name]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by section."""
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()])
