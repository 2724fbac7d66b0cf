"""Running the command line in this process, as a shell would see it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tollkeeper.app.cli import main


class Ended(msgspec.Struct, frozen=True):
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


class CommandLine:
    """`tollkeeper` on one home."""

    def __init__(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.home = home
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        monkeypatch.setenv("TOLLKEEPER_HOME", str(home))
        monkeypatch.setenv("COLUMNS", "80")

    def __call__(self, *arguments: str, stdin: str = "") -> Ended:
        """Run one command to its end."""
        self._monkeypatch.setattr(sys, "argv", ["tollkeeper", *arguments])
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        self._capsys.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        captured = self._capsys.readouterr()
        assert isinstance(code, int)
        return Ended(code, captured.out, captured.err)

    def json(self, *arguments: str, stdin: str = "", code: int = 0) -> Any:
        """Run one command with --json; its document."""
        ended = self(*arguments, "--json", stdin=stdin)
        assert ended.code == code, ended
        return ended.document
