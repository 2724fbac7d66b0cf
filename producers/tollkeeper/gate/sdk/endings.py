"""Whether a provider began to answer, as far as an error tells. Pure; knows no client, only their ways.

Only where it certainly did not is a hold released: the connection was never made, or the provider
answered with an error in place of a body. A timeout while waiting, a connection that broke, a cancelled
call and any error of the caller's own say nothing: the provider may have computed, and will charge for it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

_NEVER_CONNECTED = frozenset(
    {
        "ConnectError",  # httpx: refused, no route, unknown name, TLS
        "ConnectTimeout",  # httpx and requests
        "PoolTimeout",  # httpx: no connection was free
        "UnsupportedProtocol",
        "NewConnectionError",  # urllib3
        "NameResolutionError",
        "ClientConnectorError",  # aiohttp
        "ClientConnectorDNSError",
    }
)
_MOST_CAUSES = 10


def did_not_begin(error: BaseException) -> bool:
    """Whether the error says for certain that the provider did not begin to answer."""
    return any(_says_so(one) for one in _causes(error))


def _says_so(error: BaseException) -> bool:
    if isinstance(error, ConnectionRefusedError | socket.gaierror):
        return True
    status = _status(error)
    if status is not None:
        return 400 <= status <= 599
    return any(kind.__name__ in _NEVER_CONNECTED for kind in type(error).__mro__)


def _status(error: BaseException) -> int | None:
    """The HTTP status of a response that the error carries: the providers' clients, httpx and requests.

    A status of the error's own says nothing: web frameworks raise such to answer their own caller.
    """
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from; not what was being handled meanwhile."""
    found: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if found is None:
            return
        yield found
        found = found.__cause__
