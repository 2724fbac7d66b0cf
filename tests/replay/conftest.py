"""Fixtures of the tests of replays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from replay.histories import fill
from support import homes
from support.stores import Store

from tollkeeper.app.wiring import App


@pytest.fixture(scope="module")
def filled(either_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which every projection table has rows, all folded."""
    home = either_store.new(tmp_path_factory.mktemp("filled"))
    with homes.opened_app(home) as app:
        fill(app)
    return home


@pytest.fixture
def app(filled: Path, either_store: Store, tmp_path: Path) -> Iterator[App]:
    with homes.opened_app(either_store.copied(filled, tmp_path / "home")) as opened:
        yield opened
