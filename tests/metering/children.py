"""Starts `child_emitter.py` and collects what it printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHILD = Path(__file__).with_name("child_emitter.py")


def start(*arguments: object, failpoints: str = "") -> subprocess.Popen[str]:
    """A child process that emits."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TOLLKEEPER_FAILPOINTS": failpoints,
    }
    return subprocess.Popen(
        [sys.executable, str(CHILD), *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(child: subprocess.Popen[str]) -> tuple[list[str], str]:
    """The event ids that the child printed as accepted, and its errors; waits for its end."""
    printed, errors = child.communicate(timeout=60)
    return [line for line in printed.splitlines() if line], errors
