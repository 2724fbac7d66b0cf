"""Starts `child_emitter.py` or `child_holder.py` and collects what it printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def start(
    *arguments: object, failpoints: str = "", program: str = "child_emitter.py"
) -> subprocess.Popen[str]:
    """A child process that emits."""
    return _run(str(FOLDER / program), *map(str, arguments), failpoints=failpoints)


def start_code(code: str, *arguments: object, failpoints: str = "") -> subprocess.Popen[str]:
    """A child process that runs these lines."""
    return _run("-c", code, *map(str, arguments), failpoints=failpoints)


def finish(child: subprocess.Popen[str], *, timeout_s: float = 60) -> tuple[list[str], str]:
    """The event ids that the child printed as accepted, and its errors; waits for its end."""
    printed, errors = child.communicate(timeout=timeout_s)
    return [line for line in printed.splitlines() if line], errors


def _run(*arguments: str, failpoints: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TOLLKEEPER_FAILPOINTS": failpoints,
    }
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
