"""A TCP proxy before a server of a test: passes connections on, refuses them or falls silent.

What goes through it, and where a test breaks it off, is its heirs' to know.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from abc import ABC, abstractmethod
from typing import Literal

Direction = Literal["request", "response"]
Action = Literal["cut", "swallow"]


class TcpProxy(ABC):
    """Listens on `port` and passes connections on to the server's port `behind`."""

    def __init__(self, port: int, behind: int) -> None:
        self._port, self._behind = port, behind
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._sockets: set[socket.socket] = set()
        self._is_silent = False

    @abstractmethod
    def connected(self, client: socket.socket, server: socket.socket) -> None:
        """Begin to pass on what one client and the server say to each other."""

    @property
    def address(self) -> str:
        """host:port"""
        return f"127.0.0.1:{self._port}"

    def accept(self) -> None:
        """Listen; connections are passed on from now on."""
        listener = socket.create_server(("127.0.0.1", self._port))
        self._listener = listener
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def refuse(self) -> None:
        """Refuse new connections and cut those that are open."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def cut(self) -> None:
        """Cut the connections that are open now."""
        with self._lock:
            open_now = list(self._sockets)
        for one in open_now:
            abort(one)

    def silence(self) -> None:
        """Swallow everything, on every connection and both ways, as a firewall that forgot them."""
        self._is_silent = True

    def speak(self) -> None:
        """Pass frames again; what was swallowed is gone, and its connections with it."""
        with self._lock:
            open_now = list(self._sockets)
            self._is_silent = False
        for one in open_now:
            abort(one)

    def opened(self, *sockets: socket.socket) -> None:
        """For connections: these are open."""
        with self._lock:
            self._sockets.update(sockets)

    def closed(self, *sockets: socket.socket) -> None:
        """For connections: these are not open any more."""
        with self._lock:
            self._sockets.difference_update(sockets)
        for one in sockets:
            abort(one)

    def is_silent(self) -> bool:
        """For connections: whether everything is swallowed."""
        return self._is_silent

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._behind), timeout=5)
            except OSError:
                abort(client)
                continue
            server.settimeout(None)
            for one in (client, server):  # a frame at a time would otherwise wait for each ACK
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.opened(client, server)
            self.connected(client, server)


def read_exactly(source: socket.socket, count: int) -> bytes | None:
    """So many bytes; None at the connection's end."""
    parts = bytearray()
    while len(parts) < count:
        part = source.recv(min(65_536, count - len(parts)))
        if not part:
            return None
        parts += part
    return bytes(parts)


def abort(one: socket.socket) -> None:
    """End the connection at once, waking whoever waits for it."""
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        one.close()
