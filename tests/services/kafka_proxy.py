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

from services.tcp_proxy import Action, Direction, TcpProxy, read_exactly

_LENGTH = struct.Struct(">i")
_REQUEST = struct.Struct(">hhi")  # API, its version, correlation id
_CORRELATION = struct.Struct(">i")


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


class KafkaProxy(TcpProxy):
    """A proxy that knows the frames of Kafka's protocol."""

    def __init__(self, port: int, behind: int) -> None:
        super().__init__(port, behind)
        self._fault: Fault | None = None
        self.seen: set[Api] = set()
        """The APIs that went through."""

    def connected(self, client: socket.socket, server: socket.socket) -> None:
        """See `TcpProxy`."""
        _Connection(self, client, server).start()

    def arm(self, fault: Fault) -> Fault:
        """Break at the next frame that fits; the one armed before is forgotten."""
        with self._lock:
            self._fault = fault
        return fault

    def disarm(self) -> None:
        """Let everything pass again."""
        with self._lock:
            self._fault = None

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

    def _api(self, frame: bytes, direction: Direction) -> int:
        if direction == "request":
            api, _, correlation = _REQUEST.unpack_from(frame, _LENGTH.size)
            self._apis[correlation] = api
            return int(api)
        (correlation,) = _CORRELATION.unpack_from(frame, _LENGTH.size)
        return self._apis.pop(correlation, -1)


def _read_frame(source: socket.socket) -> bytes | None:
    """One frame with its length before it; None at the connection's end."""
    head = read_exactly(source, _LENGTH.size)
    if head is None:
        return None
    body = read_exactly(source, _LENGTH.unpack(head)[0])
    return None if body is None else head + body
