"""A TCP proxy before a Kafka broker that breaks off, swallows or refuses where a test tells it to.

It knows the frames of the protocol and no more: a request's first bytes name its API, a response is
matched to its request by the correlation id.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

_LENGTH = struct.Struct(">i")
_REQUEST = struct.Struct(">hhi")  # API, its version, correlation id
_CORRELATION = struct.Struct(">i")

Direction = Literal["request", "response"]
Action = Literal["cut", "swallow"]


class Api(IntEnum):
    """The requests that tests break."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    API_VERSIONS = 18
    INIT_PRODUCER_ID = 22


@dataclass(eq=False)
class Fault:
    """Lets `share` of the next such frame's bytes through and then cuts, or swallows what follows.

    A cut ends the connection in both directions; a swallowed connection stays open and is silent.
    """

    api: Api
    direction: Direction
    share: float
    action: Action = "cut"
    struck: threading.Event = field(default_factory=threading.Event)

    def __str__(self) -> str:
        return f"{self.action} of a {self.api.name} {self.direction} after {self.share:.0%}"


class KafkaProxy:
    """Listens on `port` and passes frames to and from the broker's port `behind`."""

    def __init__(self, port: int, behind: int) -> None:
        self._port, self._behind = port, behind
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._sockets: set[socket.socket] = set()
        self._fault: Fault | None = None
        self._is_silent = False
        self.seen: set[Api] = set()
        """The APIs that went through."""

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
        with self._lock:
            open_now = list(self._sockets)
        for one in open_now:
            _abort(one)

    def arm(self, fault: Fault) -> Fault:
        """Break at the next frame that fits; the one armed before is forgotten."""
        with self._lock:
            self._fault = fault
        return fault

    def disarm(self) -> None:
        """Let everything pass again."""
        with self._lock:
            self._fault = None

    def silence(self) -> None:
        """Swallow everything, on every connection and both ways, as a firewall that forgot them."""
        self._is_silent = True

    def speak(self) -> None:
        """Pass frames again; what was swallowed is gone, and its connections with it."""
        with self._lock:
            open_now = list(self._sockets)
            self._is_silent = False
        for one in open_now:
            _abort(one)

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(("127.0.0.1", self._behind), timeout=5)
            except OSError:
                _abort(client)
                continue
            broker.settimeout(None)
            _Connection(self, client, broker).start()

    def opened(self, *sockets: socket.socket) -> None:
        """For connections: these are open."""
        with self._lock:
            self._sockets.update(sockets)

    def closed(self, *sockets: socket.socket) -> None:
        """For connections: these are not open any more."""
        with self._lock:
            self._sockets.difference_update(sockets)

    def is_silent(self) -> bool:
        """For connections: whether everything is swallowed."""
        return self._is_silent

    def fault_for(self, api: int, direction: Direction) -> Fault | None:
        """For connections: the fault that this frame meets. It is met once."""
        with self._lock:
            with contextlib.suppress(ValueError):
                self.seen.add(Api(api))
            fault = self._fault
            if fault is None or fault.api != api or fault.direction != direction:
                return None
            self._fault = None
        return fault


class _Connection:
    """One client's connection: a thread for each direction, ended together."""

    def __init__(self, proxy: KafkaProxy, client: socket.socket, broker: socket.socket) -> None:
        self._proxy, self._client, self._broker = proxy, client, broker
        self._apis: dict[int, int] = {}  # of the requests that wait for their response

    def start(self) -> None:
        self._proxy.opened(self._client, self._broker)
        for direction in ("request", "response"):
            threading.Thread(target=self._pump, args=(direction,), daemon=True).start()

    def _pump(self, direction: Direction) -> None:
        source, target = (
            (self._client, self._broker) if direction == "request" else (self._broker, self._client)
        )
        is_swallowing = False
        try:
            while frame := _read_frame(source):
                fault = self._proxy.fault_for(self._api(frame, direction), direction)
                if is_swallowing or self._proxy.is_silent():
                    continue
                if fault is None:
                    target.sendall(frame)
                    continue
                target.sendall(frame[: round(len(frame) * fault.share)])
                fault.struck.set()
                if fault.action == "cut":
                    return
                is_swallowing = True
        except OSError:
            pass  # the other end, or the other direction, ended it
        finally:
            self._proxy.closed(self._client, self._broker)
            _abort(self._client)
            _abort(self._broker)

    def _api(self, frame: bytes, direction: Direction) -> int:
        if direction == "request":
            api, _, correlation = _REQUEST.unpack_from(frame, _LENGTH.size)
            self._apis[correlation] = api
            return int(api)
        (correlation,) = _CORRELATION.unpack_from(frame, _LENGTH.size)
        return self._apis.pop(correlation, -1)


def _read_frame(source: socket.socket) -> bytes | None:
    """One frame with its length before it; None at the connection's end."""
    head = _read_exactly(source, _LENGTH.size)
    if head is None:
        return None
    body = _read_exactly(source, _LENGTH.unpack(head)[0])
    return None if body is None else head + body


def _read_exactly(source: socket.socket, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        part = source.recv(min(65_536, count - len(parts)))
        if not part:
            return None
        parts += part
    return bytes(parts)


def _abort(one: socket.socket) -> None:
    """End the connection at once, waking whoever waits for it."""
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        one.close()
