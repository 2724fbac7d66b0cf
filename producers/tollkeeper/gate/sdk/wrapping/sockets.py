"""Keeps a wrapped client of OpenAI's from opening WebSockets: what is said over them can't be metered.

Every way to connect asks the client for `websocket_base_url` before anything is sent. Must not know holds.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import cache, wraps
from typing import Any

from tollkeeper.gate.sdk.wrapping.endpoints import not_understood

PATH = "/websocket"
"""What `gate.wrap(client, allow=(PATH,))` names to let WebSockets pass."""

_KEPT = "_tollkeeper_websocket_base_url"
_is_copying: ContextVar[bool] = ContextVar("tollkeeper_is_copying", default=False)


def without_sockets(client: Any) -> None:
    """Have this client refuse to say where WebSockets are, by giving it a subclass of its class."""
    if _KEPT not in vars(client) and hasattr(client, "websocket_base_url"):
        vars(client)[_KEPT] = vars(client).pop("websocket_base_url", None)
        client.__class__ = _socketless(client.__class__)


def copying(copy: Callable[..., Any]) -> Callable[..., Any]:
    """The same `copy`, which is told where WebSockets are: it hands that on."""

    @wraps(copy)
    def copied(*args: Any, **kwargs: Any) -> Any:
        token = _is_copying.set(True)
        try:
            return copy(*args, **kwargs)
        finally:
            _is_copying.reset(token)

    return copied


@cache
def _socketless(kind: Any) -> type:
    """Of the same layout as its one base: an object may change to it."""
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__slots__": ()}
    return type(kind.__name__, (kind,), {**names, "websocket_base_url": property(_asked, _keep)})


def _asked(client: Any) -> Any:
    if not _is_copying.get():
        raise not_understood("WebSocket connections", PATH)
    return vars(client).get(_KEPT)


def _keep(client: Any, url: Any) -> None:
    vars(client)[_KEPT] = url
