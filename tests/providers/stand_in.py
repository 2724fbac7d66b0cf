"""A provider's HTTP API that answers what a test says: the server, without any provider's format.

Each request takes the next answer that `will` named, so a retry takes the next one as well. Every way
in which an answer can end badly is an `Ending`.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import msgspec

LONGEST_HANG_S = 30.0


class Ending(Enum):
    """How an answer ends."""

    WELL = "all of it is sent"
    CUT = "the connection is cut after the last piece"
    SILENT = "after the last piece nothing more comes, and the connection stays open"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent for one request: a body in pieces, each flushed by itself.

    `status` None sends not even a status line before `ending`. `is_gzipped` compresses the pieces
    as the providers' edges do. A stream has no length: it ends with its last piece.
    """

    status: int | None = 200
    headers: tuple[tuple[str, str], ...] = ()
    pieces: tuple[bytes, ...] = ()
    ending: Ending = Ending.WELL
    is_stream: bool = False
    is_gzipped: bool = False


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it arrived."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: dict[str, Any]


Script = Answer | Callable[[Asked], Answer]
"""An answer, or what makes one of the request."""

NEVER_ANSWERED = Answer(status=None, ending=Ending.SILENT)
CUT_BEFORE_ANSWERING = Answer(status=None, ending=Ending.CUT)


def json_answer(body: object, *, status: int = 200, **headers: str) -> Answer:
    """A whole JSON answer; `retry_after_ms="1"` becomes the header `retry-after-ms`."""
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Answer(status=status, headers=named, pieces=(json.dumps(body).encode(),))


class StandIn:
    """The server. `url` is what a client gets as its base URL."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._script: deque[Script] = deque()
        self._end_of_silence = threading.Event()
        self.silent = threading.Semaphore(0)
        """Released once for every answer that has fallen silent."""
        stand_in = self

        class Handler(_Handler):
            """Bound to this server's script."""

            owner = stand_in

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    def will(self, *answers: Script) -> None:
        """Answer the next requests with these, in order."""
        self._script.extend(answers)

    @property
    def unused(self) -> int:
        """How many answers nobody asked for yet."""
        return len(self._script)

    def next_answer(self, asked: Asked) -> Answer:
        """Take the next answer; an unexpected request is told so, with a status nobody retries."""
        self.asked.append(asked)
        if not self._script:
            message = f"the test expected no {asked.method} {asked.path}"
            return json_answer({"error": {"type": "not_scripted", "message": message}}, status=418)
        script = self._script.popleft()
        return script if isinstance(script, Answer) else script(asked)

    def fall_silent(self) -> None:
        """Wait for the end of the test, with a bound."""
        self.silent.release()
        self._end_of_silence.wait(LONGEST_HANG_S)

    def __enter__(self) -> StandIn:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end_of_silence.set()
        self._server.shutdown()
        self._thread.join()
        self._server.close_all()


class _Server(ThreadingHTTPServer):
    """Ends its threads' connections with itself, whatever they wait for."""

    daemon_threads = True
    block_on_close = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what many tests are about."""

    def close_all(self) -> None:
        with self._lock:
            still_open = list(self._open)
        for connection in still_open:
            _cut(connection)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: StandIn
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length) if length else b""
        path, _, query = self.path.partition("?")
        asked = Asked(
            method=self.command,
            path=path,
            query=query,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=_document(body),
        )
        self._send(self.owner.next_answer(asked))

    do_GET = do_POST
    do_DELETE = do_POST

    def _send(self, answer: Answer) -> None:
        if answer.status is not None:
            self._begin(answer)
            for piece in _encoded(answer):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                self.wfile.flush()
        if answer.ending is Ending.WELL:
            self.wfile.write(b"0\r\n\r\n")
            return
        if answer.ending is Ending.SILENT:
            self.owner.fall_silent()
        self.close_connection = True
        _cut(self.connection)

    def _begin(self, answer: Answer) -> None:
        assert answer.status is not None
        self.send_response(answer.status)
        kind = "text/event-stream" if answer.is_stream else "application/json"
        headers = {"content-type": kind, "transfer-encoding": "chunked", **dict(answer.headers)}
        if answer.is_gzipped:
            headers["content-encoding"] = "gzip"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what was asked stands in `asked`."""


def _document(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _encoded(answer: Answer) -> Iterator[bytes]:
    if not answer.is_gzipped:
        yield from (piece for piece in answer.pieces if piece)
        return
    if not answer.is_stream:
        yield gzip.compress(b"".join(answer.pieces))
        return
    packer = zlib.compressobj(wbits=31)
    for piece in answer.pieces:
        yield packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)
    if answer.ending is Ending.WELL:
        yield packer.flush()


def _cut(connection: socket.socket) -> None:
    """End a connection both ways, as a process that dies does; it may have ended by itself."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def in_pieces(data: bytes, size: int) -> Sequence[bytes]:
    """The same bytes cut anywhere: within events, lines and characters."""
    return [data[start : start + size] for start in range(0, len(data), size)]
