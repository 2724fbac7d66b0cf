"""One HTTP request to an endpoint, within a bound of time, to an address that was looked at.

Python's own `http.client`: it follows no redirect, knows no proxy from the environment, and lets us
connect to the very address that was checked; a client that resolves the name once more could be led
elsewhere in between.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from functools import cache

from tollkeeper.errors import InvalidInput
from tollkeeper.webhooks.addresses import Target, is_loopback, is_refused, parse_target

CONNECT_TIMEOUT_S = 5.0
TOTAL_TIMEOUT_S = 15.0
"""All of a request, answer included: an endpoint that dribbles byte by byte is cut off."""

Resolve = Callable[[str, int], list[str]]
"""A host's addresses, the one to try first at the front. Raises OSError."""

Sender = Callable[[str, Mapping[str, str], bytes], int]
"""Brings a request (URL, headers, body) to an endpoint and answers the HTTP status. Raises NotSent when
there was no answer in time."""


class NotSent(Exception):
    """No answer: the message says why, without the URL."""


class HttpSender:
    """Over the network; `allowed` as in `addresses`, `resolve` stands for the system's resolver."""

    def __init__(
        self,
        allowed: frozenset[str] = frozenset(),
        *,
        resolve: Resolve | None = None,
        total_timeout_s: float = TOTAL_TIMEOUT_S,
    ) -> None:
        self._allowed = allowed
        self._resolve = resolve or _resolve
        self._total_timeout_s = total_timeout_s

    def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """See `Sender`."""
        try:
            target = parse_target(url, self._allowed)
            sock = self._connect(target)
        except InvalidInput as refused:  # what is allowed may have changed since it was added
            raise NotSent(str(refused)) from refused
        except (
            OSError,
            ValueError,
        ) as error:  # of a name that can be none Python raises ValueError
            raise NotSent(f"no connection: {_reason(error)}") from error
        # Each read has a bound of its own; the timer is the one for all of them together.
        timer = threading.Timer(self._total_timeout_s, _cut, [sock])
        timer.daemon = True
        timer.start()
        try:
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            return _exchange(sock, target, headers, body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NotSent(f"no answer: {_reason(error)}") from error
        finally:
            timer.cancel()
            sock.close()

    def _connect(self, target: Target) -> socket.socket:
        addresses = self._resolve(target.host, target.port)
        for address in addresses:
            if is_refused(address, self._allowed):
                raise NotSent(f"{target.host} is at {address}, where nothing is sent")
            if not target.is_tls and "http" not in self._allowed and not is_loopback(address):
                raise NotSent(f"{target.host} is at {address}: http goes to this machine only")
        sock = _first_that_answers(addresses, target.port)
        if not target.is_tls:
            return sock
        return _tls().wrap_socket(sock, server_hostname=target.host, do_handshake_on_connect=False)


def _exchange(sock: socket.socket, target: Target, headers: Mapping[str, str], body: bytes) -> int:
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.sock = sock
    connection.putrequest("POST", target.path, skip_host=True, skip_accept_encoding=True)
    for name, value in {
        "host": target.host_header,
        "content-length": str(len(body)),
        "connection": "close",
        **headers,
    }.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    return connection.getresponse().status


def _first_that_answers(addresses: list[str], port: int) -> socket.socket:
    last = OSError("the name has no address")
    for address in addresses:
        try:
            return socket.create_connection((address, port), timeout=CONNECT_TIMEOUT_S)
        except OSError as error:
            last = error
    raise last


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _cut(sock: socket.socket) -> None:
    try:
        socket.socket.shutdown(
            sock, socket.SHUT_RDWR
        )  # not TLS's own, which belongs to the other thread
    except OSError:
        return  # it ended by itself


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _reason(error: BaseException) -> str:
    """What a person needs to know; an error's text never holds what was sent."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
