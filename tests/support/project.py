"""This project as files: where it is, its source roots, and what belongs to it."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = ("schemas", "producers", "projections", "consumers")
_IGNORED_FOLDERS = frozenset({".git", ".venv", "build", "dist", "__pycache__"})


@cache
def project_files() -> tuple[str, ...]:
    """Every file of the project, new ones included, relative to its root."""
    if not (ROOT / ".git").exists():
        return tuple(sorted(_walk()))
    # A checkout may belong to someone else than who runs the tests; only names are read from it.
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60).stdout
    names = listed.decode().split("\0")
    return tuple(sorted(name for name in names if name and (ROOT / name).is_file()))


def _walk() -> list[str]:
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in _IGNORED_FOLDERS]
        found += [str((Path(folder) / name).relative_to(ROOT)) for name in names]
    return found
