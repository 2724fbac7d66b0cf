"""Running the command line in this process, as a shell would see it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.homes import settings_of

from tollkeeper.app.cli import main
from tollkeeper.metering.usage import Usage
from tollkeeper.money.amounts import usd_to_nanos
from tollkeeper.money.instants import parse_instant

NOW = "2026-11-20T12:00:00Z"
CALL: dict[str, Any] = {
    "organization": "acme",
    "member": "ann",
    "surface": "web",
    "model": "claude-sonnet-5",
    "input_tokens": 1_000,
    "output_tokens": 100,
}
ACME = [
    Usage(event_id=event_id, occurred_at=parse_instant(NOW), **{**CALL, "surface": surface})
    for event_id, surface in (("e1", "web"), ("e2", "claude_code"))
]
"""What acme has used from the beginning."""


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
        for name, value in settings_of(home).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setenv("TOLLKEEPER_HTTP", "off")

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


def line(event_id: str = "e1", **fields: object) -> str:
    """One usage event as a line; 1,000 tokens in for 0.002 USD and 100 out for 0.001."""
    return json.dumps({**CALL, "event_id": event_id, "occurred_at": NOW, **fields}) + "\n"


def twins_are_exact(document: Any) -> None:
    """Every `_nanos` has its `_usd`, and both say the same."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key.endswith("_nanos") and value is not None:
                assert usd_to_nanos(document[f"{key[:-6]}_usd"].lstrip("-")) == abs(value), key
            twins_are_exact(value)
    elif isinstance(document, list):
        for one in document:
            twins_are_exact(one)
