"""Where webhooks may go and where never: no metadata service, no plain http into the network."""

from __future__ import annotations

import pytest

from tollkeeper.errors import InvalidInput
from tollkeeper.webhooks.addresses import Target, is_loopback, is_refused, parse_target

HTTP, LINK_LOCAL = frozenset({"http"}), frozenset({"link_local"})


@pytest.mark.parametrize(
    ("url", "target", "header"),
    [
        ("https://example.org", Target(True, "example.org", 443, "/"), "example.org"),
        ("https://Example.org:8443/a?b=c", Target(True, "example.org", 8443, "/a?b=c"), None),
        ("https://example.org/a#part", Target(True, "example.org", 443, "/a"), "example.org"),
        ("http://localhost:80/x", Target(False, "localhost", 80, "/x"), "localhost"),
        ("http://127.0.0.1:8080", Target(False, "127.0.0.1", 8080, "/"), "127.0.0.1:8080"),
        ("http://[::1]:8080/x", Target(False, "::1", 8080, "/x"), "[::1]:8080"),
        ("https://example.org./x", Target(True, "example.org.", 443, "/x"), "example.org."),
        ("https://10.1.2.3/x", Target(True, "10.1.2.3", 443, "/x"), "10.1.2.3"),
    ],
)
def test_what_an_endpoint_may_be(url: str, target: Target, header: str | None) -> None:
    assert parse_target(url) == target
    assert target.host_header == (header or "example.org:8443")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://example.org/", "must be https"),
        ("http://10.1.2.3/", "must be https"),
        ("http://localhost.example.org/", "must be https"),
        ("https://user:secret@example.org/", "no user and password"),
        ("https://user@example.org/", "no user and password"),
        ("ftp://example.org/", "must be a URL"),
        ("file:///etc/passwd", "must be a URL"),
        ("example.org/hook", "must be a URL"),
        ("https:///hook", "must be a URL"),
        ("https://example..org/", "must be a URL"),
        ("https://.example.org/", "must be a URL"),
        ("https://" + "x" * 64 + ".org/", "must be a URL"),
        ("https://example.org:99999/", "must be a URL"),
        ("https://example.org:0/", "must be a URL"),
        ("https://exa mple.org/", "ASCII"),
        ("https://example.org/\r\nx-evil: 1", "ASCII"),
        ("https://exämple.org/", "ASCII"),
        ("https://example.org/" + "x" * 2_000, "at most 2000"),
    ],
)
def test_what_an_endpoint_may_not_be(url: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        parse_target(url)
    assert "secret" not in str(refused.value)


def test_plain_http_goes_further_where_it_is_allowed() -> None:
    assert parse_target("http://example.org/", HTTP).port == 80


REFUSED = [
    "169.254.169.254",
    "169.254.0.1",
    "::ffff:169.254.169.254",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "100.100.100.200",
    "168.63.129.16",
    "fd20:ce::254",
    "fd00:42::42",
    "192.0.0.192",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
]


@pytest.mark.parametrize("address", REFUSED)
def test_link_local_and_metadata_addresses_are_refused_unless_allowed(address: str) -> None:
    assert is_refused(address)
    assert not is_refused(address, LINK_LOCAL)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"])
def test_what_is_no_machines_address_is_always_refused(address: str) -> None:
    assert is_refused(address, LINK_LOCAL)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "93.184.216.34"]
)
def test_other_addresses_are_not(address: str) -> None:
    assert not is_refused(address)


@pytest.mark.parametrize(
    ("address", "is_it"),
    [
        *(("127.8.9.1", True), ("::ffff:127.0.0.1", True), ("128.0.0.1", False)),
        *(("64:ff9b::7f00:1", False), ("2002:7f00:1::", False)),
    ],
)
def test_this_machine_is_known_by_its_addresses(address: str, is_it: bool) -> None:
    assert is_loopback(address) is is_it
