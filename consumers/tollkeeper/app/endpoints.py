"""What a process answers over HTTP: /metrics, /healthz, and /livez for whoever would restart it.

/healthz fails when somebody has to look; /livez fails only for what a new process may mend, so that a
halted partition or a database that is away never ends in restarts that disturb everything else. No
question touches a service, and few are answered at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from socket import AF_INET, AF_INET6, SHUT_RDWR, SO_REUSEADDR, SOL_SOCKET
from socket import error as SocketError
from socket import socket as Socket
from typing import Any

import msgspec
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from tollkeeper.app.health import Reason
from tollkeeper.app.metrics import release
from tollkeeper.app.run_settings import Address
from tollkeeper.app.watch import Watch
from tollkeeper.errors import InvalidInput

MAX_REQUESTS = 4
REQUEST_TIMEOUT_S = 5.0
POLL_S = 0.1
JSON = "application/json"

Answer = tuple[int, str, bytes]


def answer_of(path: str, watch: Watch) -> Answer:
    """Status, content type and body for a path."""
    match path.partition("?")[0]:
        case "/metrics":
            return 200, CONTENT_TYPE_PLAIN_0_0_4, watch.exposition()
        case "/healthz":
            return _verdict(watch, watch.health.reasons())
        case "/livez":
            mendable = [one for one in watch.health.reasons() if one.may_restart_help]
            return _verdict(watch, mendable)
        case _:
            return 404, "text/plain", b"there are /metrics, /healthz and /livez\n"


def _verdict(watch: Watch, reasons: list[Reason]) -> Answer:
    document = {
        "healthy": not reasons,
        "reasons": reasons,
        "partitions": watch.health.owned,
        "version": release(),
    }
    return (503 if reasons else 200), JSON, msgspec.json.encode(document) + b"\n"


@contextmanager
def answering(address: Address | None, watch: Watch) -> Iterator[Address | None]:
    """Answer at this address meanwhile; gives the address with its real port. InvalidInput when taken."""
    if address is None:
        yield None
        return
    try:
        server = _Server(address, watch)
    except (OSError, OverflowError) as error:
        raise InvalidInput(
            "TOLLKEEPER_HTTP",
            f"{address.shown} can't be listened on: {getattr(error, 'strerror', None) or error}; name "
            "another address, or off",
        ) from error
    thread = threading.Thread(
        target=server.serve_forever, args=(POLL_S,), name="endpoints", daemon=True
    )
    thread.start()
    try:
        yield Address(address.host, server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


class _Server(HTTPServer):
    """Answers at most MAX_REQUESTS at once; a connection more is closed, not queued."""

    request_queue_size = 2 * MAX_REQUESTS
    allow_reuse_address = True  # only from TIME_WAIT: a port in use is still refused

    def __init__(self, address: Address, watch: Watch) -> None:
        self.watch = watch
        self.address_family = AF_INET6 if ":" in address.host else AF_INET
        self._free = threading.BoundedSemaphore(MAX_REQUESTS)
        self._pool = ThreadPoolExecutor(MAX_REQUESTS, thread_name_prefix="endpoint")
        super().__init__((address.host, address.port), _Handler)

    def server_bind(self) -> None:
        """Without HTTPServer's look-up of a host name, which may wait for a name server."""
        # Else the connections that the last process has just closed would keep the address for a minute.
        self.socket.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand the connection to a thread, or close it when all are busy."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._pool.submit(self._work, request, client_address)

    def _work(self, request: Socket, client_address: Any) -> None:
        # A client that sends a byte now and then would never time out: the whole request has an end.
        end = threading.Timer(REQUEST_TIMEOUT_S, _cut, (request,))
        end.daemon = True
        end.start()
        try:
            self.finish_request(request, client_address)
        except OSError:
            pass  # the client went away
        finally:
            end.cancel()
            self.shutdown_request(request)
            self._free.release()

    def server_close(self) -> None:
        """Close the socket; requests under way end by their own time limit."""
        super().server_close()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _cut(request: Socket) -> None:
    with suppress(SocketError):
        request.shutdown(SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = REQUEST_TIMEOUT_S

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    def _answer(self, *, has_body: bool) -> None:
        status, content_type, body = answer_of(self.path, self.server.watch)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if has_body:
            self.wfile.write(body)

    def version_string(self) -> str:
        return "tollkeeper"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a probe every second would drown the log."""
