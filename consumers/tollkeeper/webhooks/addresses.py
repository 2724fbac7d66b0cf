"""Where webhooks may go: what an endpoint's URL must look like, and which addresses are refused. Pure.

A webhook is a request made from inside the platform's network. So it goes to nothing that answers only
because of where the request comes from: no link-local address, no cloud's metadata service.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from tollkeeper.errors import InvalidInput

MAX_URL_LENGTH = 2_000
MAX_LABEL_LENGTH = 63  # of what stands between two dots of a name
Allowance = Literal["http", "link_local"]
ALLOWANCES: frozenset[str] = frozenset({"http", "link_local"})
"""What may be allowed besides: plain http to other machines; link-local and metadata addresses."""

Address = IPv4Address | IPv6Address
METADATA = tuple(
    map(
        ip_network,
        (
            "169.254.0.0/16",  # link-local, and the metadata service of most clouds
            "fe80::/10",
            "fd00:ec2::/32",  # AWS over IPv6
            "fd20:ce::254/128",  # Google over IPv6
            "fd00:42::42/128",  # Scaleway over IPv6
            "192.0.0.192/32",  # Oracle's classic cloud
            "100.100.100.200/32",  # Alibaba
            "168.63.129.16/32",  # Azure
        ),
    )
)
_NAT64 = ip_network("64:ff9b::/96")


class Target(msgspec.Struct, frozen=True):
    """An endpoint's URL in parts; `path` with its query."""

    is_tls: bool
    host: str
    port: int
    path: str

    @property
    def host_header(self) -> str:
        """As the Host header says it: a usual port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"


def parse_target(url: str, allowed: frozenset[str] = frozenset()) -> Target:
    """The URL in parts. InvalidInput: it isn't https, nor http to this machine, or has a password."""
    if len(url) > MAX_URL_LENGTH or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidInput("url", f"must be at most {MAX_URL_LENGTH} ASCII characters of a URL")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidInput("url", "must be a URL such as https://example.org/hook") from None
    host = parts.hostname or ""
    if parts.scheme not in ("https", "http") or not _is_host(host) or port == 0:
        raise InvalidInput("url", "must be a URL such as https://example.org/hook")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("url", "must have no user and password: the signature says who sends")
    if parts.scheme == "http" and "http" not in allowed and not _is_this_machine(host):
        raise InvalidInput("url", "must be https: http goes to localhost only, unless allowed")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    is_tls = parts.scheme == "https"
    return Target(is_tls, host, port or (443 if is_tls else 80), path)


def is_refused(address: str, allowed: frozenset[str] = frozenset()) -> bool:
    """Whether nothing is sent to this address, wherever its name came from."""
    found = _translated(_unmapped(ip_address(address.partition("%")[0])))
    if found.is_multicast or found.is_unspecified or found == ip_address("255.255.255.255"):
        return True
    return "link_local" not in allowed and any(found in network for network in METADATA)


def is_loopback(address: str) -> bool:
    """Whether it is this machine."""
    return _unmapped(ip_address(address.partition("%")[0])).is_loopback


def _is_host(host: str) -> bool:
    """Whether it may be a name or an address; a resolver breaks on labels that no name can have."""
    labels = host.removesuffix(".").split(".")
    return ":" in host or all(0 < len(label) <= MAX_LABEL_LENGTH for label in labels)


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return is_loopback(host)
    except ValueError:
        return False


def _unmapped(address: Address) -> Address:
    """An IPv4 address that is written as an IPv6 one is that IPv4 address."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _translated(address: Address) -> Address:
    """Where a network's translator to IPv4 would bring what is sent to this address."""
    if not isinstance(address, IPv6Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.sixtofour or address
