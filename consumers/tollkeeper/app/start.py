"""The script `tollkeeper`: says what to install where only the SDK is."""

from __future__ import annotations

import importlib.util
import sys


def main() -> None:
    """Run the command line, if this installation has what it needs."""
    needed = ("click", "rich", "sqlalchemy")
    if any(importlib.util.find_spec(name) is None for name in needed):
        sys.stderr.write(
            "the command line comes with the extra: pip install 'tollkeeper[server]'\n"
        )
        sys.exit(2)
    from tollkeeper.app.cli import main as run

    run()
