"""A TCP proxy before PostgreSQL that breaks off or swallows at a statement that a test names.

It knows the frames of the protocol: which statement a client sends, also one that was prepared
before, and when COPY's rows begin and end. Without TLS: it refuses that, and clients go on without.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from services.tcp_proxy import Action, Direction, TcpProxy, read_exactly

_LENGTH = struct.Struct(">i")
_ASKS_FOR_ENCRYPTION = (80_877_103, 80_877_104)  # TLS, GSSAPI
STARTUP = "startup"


@dataclass(eq=False)
class Fault:
    """Strikes when a statement that begins with `statement` passes, or its answer.

    `startup` is a connection's beginning, `rows of COPY x` its data, `end of COPY x` what ends them,
    `COMMIT of x` ends the transaction that began with the statement x.
    Lets `share` of that frame's bytes through and then cuts, or swallows what follows. A cut ends the
    connection in both directions; a swallowed connection stays open and is silent.
    """

    statement: str
    direction: Direction
    share: float
    action: Action = "cut"
    struck: threading.Event = field(default_factory=threading.Event)

    def __str__(self) -> str:
        return f"{self.action} of {self.direction} {self.statement!r} after {self.share:.0%}"


class PostgresProxy(TcpProxy):
    """A proxy that knows the frames of PostgreSQL's protocol."""

    def __init__(self, port: int, behind: int, *, shown_pid: int | None = None) -> None:
        super().__init__(port, behind)
        self.shown_pid = shown_pid
        """Which process id clients are told, as a connection pool in front makes one up."""
        self._fault: Fault | None = None
        self.seen: set[str] = set()
        """The statements that went through."""

    def connected(self, client: socket.socket, server: socket.socket) -> None:
        """See `TcpProxy`."""
        _Connection(self, client, server).start()

    def arm(self, fault: Fault) -> Fault:
        """Break at the next frame that fits; the one armed before is forgotten."""
        with self._lock:
            self._fault = fault
        return fault

    def fault_for(self, statement: str, direction: Direction) -> Fault | None:
        """For connections: the fault that this frame meets. It is met once."""
        with self._lock:
            self.seen.add(statement)
            fault = self._fault
            if fault is None or fault.direction != direction:
                return None
            if not statement.startswith(fault.statement):
                return None
            self._fault = None
        return fault


class _Connection:
    """One client's connection: a thread for each direction, ended together."""

    def __init__(self, proxy: PostgresProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._prepared: dict[bytes, str] = {}
        self._statement = STARTUP
        self._transaction = ""
        self._is_silent = False

    def start(self) -> None:
        for pump in (self._pass_requests, self._pass_responses):
            threading.Thread(target=self._guarded, args=(pump,), daemon=True).start()

    def _guarded(self, pump: Callable[[], None]) -> None:
        try:
            pump()
        except OSError:
            pass  # the other end, or the other direction, ended it
        finally:
            self._proxy.closed(self._client, self._server)

    def _pass_requests(self) -> None:
        is_going_on = True
        while is_going_on and (frame := _read_frame(self._client, has_kind=False)):
            (code,) = _LENGTH.unpack_from(frame, _LENGTH.size)
            if code in _ASKS_FOR_ENCRYPTION:
                self._client.sendall(b"N")
                continue
            is_going_on = self._pass(frame, self._server, "request")
            break
        while is_going_on and (frame := _read_frame(self._client)):
            self._note(frame)
            is_going_on = self._pass(frame, self._server, "request")

    def _pass_responses(self) -> None:
        while frame := _read_frame(self._server):
            if frame[:1] == b"K" and self._proxy.shown_pid is not None:
                frame = frame[:5] + _LENGTH.pack(self._proxy.shown_pid) + frame[9:]
            if not self._pass(frame, self._client, "response"):
                return

    def _pass(self, frame: bytes, target: socket.socket, direction: Direction) -> bool:
        """Pass the frame on, or what a fault leaves of it; whether the connection goes on."""
        if self._is_silent or self._proxy.is_silent():
            return True
        fault = self._proxy.fault_for(self._statement, direction)
        if fault is None:
            target.sendall(frame)
            return True
        target.sendall(frame[: round(len(frame) * fault.share)])
        fault.struck.set()
        self._is_silent = fault.action == "swallow"
        return self._is_silent

    def _note(self, frame: bytes) -> None:
        """Remember which statement the frame begins or goes on with."""
        kind, body = frame[:1], frame[5:]
        match kind:
            case b"Q":
                self._begin(_shown(body.split(b"\0")[0]))
            case b"P":
                name, sql = body.split(b"\0")[:2]
                self._prepared[name] = _shown(sql)
                if not name:
                    self._begin(self._prepared[name])
            case b"B":
                if name := body.split(b"\0")[1]:
                    self._begin(self._prepared[name])
            case b"d" if not self._statement.startswith("rows of"):
                self._statement = f"rows of {self._statement}"
            case b"c" | b"f":
                self._statement = f"end of {self._statement.removeprefix('rows of ')}"

    def _begin(self, statement: str) -> None:
        if statement == "COMMIT":
            statement = f"COMMIT of {self._transaction}"
        elif self._statement.startswith("BEGIN"):
            self._transaction = statement
        self._statement = statement


def _shown(sql: bytes) -> str:
    return " ".join(sql.decode().split())


def _read_frame(source: socket.socket, *, has_kind: bool = True) -> bytes | None:
    """One frame with its kind and length before it; None at the connection's end."""
    kind = read_exactly(source, 1) if has_kind else b""
    length = None if kind is None else read_exactly(source, _LENGTH.size)
    if kind is None or length is None:
        return None
    body = read_exactly(source, _LENGTH.unpack(length)[0] - _LENGTH.size)
    return None if body is None else kind + length + body
