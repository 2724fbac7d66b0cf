"""A Python environment that has Tollkeeper only as it was just installed, without asking any host.

Third-party packages are taken from the environment that runs the tests, through a path file. An
editable Tollkeeper there isn't seen: path files of such a folder aren't followed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from support.project import ROOT

TIMEOUT_S = 120


class CleanEnvironment:
    """A virtual environment in `folder`. Its Python knows neither the checkout nor PYTHONPATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
        self.binaries = folder / ("Scripts" if os.name == "nt" else "bin")
        self.site_packages = Path(self.python("import sysconfig", _PURELIB).strip())
        self._others = frozenset(os.listdir(self.site_packages))
        paths = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
        (self.site_packages / "third_party.pth").write_text("\n".join(sorted(paths)), "utf-8")

    def install(self, *what: str) -> None:
        """Let pip install `what` from this machine alone, leaving dependencies as they are."""
        options = [
            "--no-deps",
            "--no-index",
            "--no-build-isolation",
            "--ignore-installed",
            "--quiet",
        ]
        pip = [sys.executable, "-m", "pip", "--python", str(self.folder)]
        run([*pip, "install", *options, *what])

    def installed(self) -> set[str]:
        """What stands in site-packages since the environment was made."""
        return (
            set(os.listdir(self.site_packages)) - self._others - {"third_party.pth", "__pycache__"}
        )

    def python(self, *lines: str, arguments: Sequence[str] = ()) -> str:
        """What a program of these lines prints; it runs outside the checkout."""
        code = "\n".join(lines)
        # -I: no PYTHON… variable, no current folder; -B: nothing is written beside the sources.
        return run([str(self.binaries / "python"), "-I", "-B", "-c", code, *arguments])


_PURELIB = "print(sysconfig.get_path('purelib'))"


def run(command: Sequence[str], *, cwd: Path | None = None) -> str:
    """Standard output of a command that must succeed, free of this environment's settings."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "PYTHON", "VIRTUAL_ENV"))
    }
    env |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        command,
        cwd=cwd or Path(sys.prefix),
        env=env,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(target: str, folder: Path) -> Path:
    """Build the `wheel` or `sdist` of this checkout into `folder`, in this environment."""
    run([sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)], cwd=ROOT)
    (built,) = folder.iterdir()
    return built
