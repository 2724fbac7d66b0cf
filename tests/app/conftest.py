"""One home is made and folded once; every test gets a copy of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from app.commands import ACME, CommandLine
from support.homes import copied, emit, end_gate, fold, handle, opened_app

from tollkeeper.organizations.commands import BuyCredits, OpenOrganization


@pytest.fixture
def tk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[CommandLine]:
    """The command line on a home that doesn't exist yet; its gate, if it gets one, is ended."""
    yield CommandLine(tmp_path / "home", monkeypatch, capsys)
    end_gate(tmp_path / "home")


@pytest.fixture(scope="session")
def acme_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """acme is open with 10 USD of credits and two charged events; not to be touched."""
    home = tmp_path_factory.mktemp("acme") / "home"
    with opened_app(home) as app:
        handle(
            app,
            OpenOrganization(organization="acme", plan="enterprise_self_serve", owner="ann"),
            BuyCredits(organization="acme", credit_nanos=10 * 10**9),
        )
        emit(app, ACME)
        fold(app)
    return home


@pytest.fixture
def acme(tk: CommandLine, acme_home: Path) -> CommandLine:
    """The command line on a copy of that home."""
    copied(acme_home, tk.home)
    return tk
