"""How tests find services: environment, container, this machine; a reason for each way that is closed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from services import containers
from services.finding import ONLY, REQUIRED, Service, Way, found, from_environment, from_here
from support.project import ROOT


class FakeServer:
    """A server that only notes what was asked of it."""

    address = "here:1"

    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self) -> None:
        """Note it."""
        self.calls.append("start")

    def close(self) -> None:
        """Note it."""
        self.calls.append("close")


def way(name: str, reason: str | None = None) -> Way:
    """A way that is open, or closed for a reason."""

    @contextmanager
    def provide() -> Iterator[str]:
        yield f"{name}:1"

    return name, lambda: reason, provide


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests say themselves what is set."""
    for name in (ONLY, REQUIRED, "TOLLKEEPER_TEST_X"):
        monkeypatch.delenv(name, raising=False)


def test_an_address_in_the_environment_goes_before_every_other_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOLLKEEPER_TEST_X", "there:9")
    with found("X", [from_environment("TOLLKEEPER_TEST_X"), way("container")]) as service:
        assert service == Service("there:9", "environment")


def test_a_container_goes_before_what_is_installed() -> None:
    ways = [from_environment("TOLLKEEPER_TEST_X"), way("container"), way("local")]
    with found("X", ways) as service:
        assert service == Service("container:1", "container")


def test_what_is_installed_is_taken_when_nothing_else_is_there() -> None:
    with found("X", [way("container", "no engine"), way("local")]) as service:
        assert service == Service("local:1", "local")


def test_only_one_way_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ONLY, "local")
    with found("X", [way("environment"), way("container"), way("local")]) as service:
        assert service.way == "local"


def test_without_a_way_the_test_is_skipped_and_every_reason_named() -> None:
    ways = [
        from_environment("TOLLKEEPER_TEST_X"),
        way("container", "no engine"),
        way("local", "no X"),
    ]
    with pytest.raises(pytest.skip.Exception) as skipped, found("X", ways):
        raise AssertionError("nothing was found, and the test ran")
    assert str(skipped.value) == (
        "X isn't at hand (environment: no TOLLKEEPER_TEST_X; container: no engine; local: no X)"
    )


def test_where_services_are_required_a_missing_one_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(REQUIRED, "1")
    with (
        pytest.raises(pytest.fail.Exception, match="container: no engine"),
        found("X", [way("container", "no engine")]),
    ):
        raise AssertionError("nothing was found, and the test ran")


def test_a_local_server_is_ended_even_when_a_test_fails() -> None:
    server = FakeServer()
    with pytest.raises(ZeroDivisionError), found("X", [from_here(lambda: None, lambda: server)]):
        assert server.calls == ["start"]
        raise ZeroDivisionError
    assert server.calls == ["start", "close"]


def test_a_way_that_is_open_and_fails_is_an_error_not_a_reason_to_take_the_next() -> None:
    @contextmanager
    def broken() -> Iterator[str]:
        raise RuntimeError("didn't start")
        yield

    ways: list[Way] = [("container", lambda: None, broken), way("local")]
    with pytest.raises(RuntimeError, match="didn't start"), found("X", ways):
        raise AssertionError("the failure was passed over")


def test_an_image_that_nobody_has_closes_the_container_way() -> None:
    reason = containers.why_no_image("tollkeeper.invalid/nobody-has-this:1")
    assert reason is not None
    assert "tollkeeper.invalid/nobody-has-this:1" in reason


@pytest.mark.parametrize("image", ["apache/kafka:4.3.1", "postgres:17", "redis:7"])
def test_tests_and_compose_file_name_the_same_public_images(image: str) -> None:
    source = (ROOT / "tests/services/containers.py").read_text("utf-8")
    composed = (ROOT / "docker-compose.yml").read_text("utf-8")
    assert f'or "{image}"' in source
    assert f":-{image}}}" in composed
