"""A child process that buys credits for several organizations and prints each answered key.

`python child_commands.py HOME FIRST COUNT`: keys `k-FIRST` on, one organization after the other.
"""

from __future__ import annotations

import sys
from pathlib import Path

from support import homes

from tollkeeper.organizations.commands import BuyCredits, CommandContext
from tollkeeper.outbox.deciding import Done

ORGANIZATIONS = ("acme", "acme-eu", "zeta")


def main() -> None:
    """Buy one nano-dollar per key; a key counts as answered once its line is out."""
    home, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    with homes.opened_app(home) as app:
        for number in range(first, first + count):
            organization = ORGANIZATIONS[number % len(ORGANIZATIONS)]
            outcome = app.organizations.handle(
                BuyCredits(organization=organization, credit_nanos=1),
                CommandContext(actor="operator", command_id=f"k-{number}"),
            )
            if isinstance(outcome, Done):
                sys.stdout.write(f"{organization} k-{number}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
