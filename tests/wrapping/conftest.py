"""A stand-in of the provider for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import wrapping.ways_async
import wrapping.ways_sync  # noqa: F401 - both register their ways
from providers.stand_in import StandIn


@pytest.fixture
def api() -> Iterator[StandIn]:
    """A server that answers what the test says."""
    with StandIn() as stand_in:
        yield stand_in
