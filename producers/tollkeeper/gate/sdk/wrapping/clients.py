"""`wrap`: a client library's client whose model calls are held, metered and settled.

Every request of both libraries goes through the client's own `request`, retries and all. The wrapped
client is a copy of it, on which this one method is replaced: its class, its resources, its streams and its
errors are the library's. It imports neither library.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection
from functools import wraps
from typing import Any, TypeVar

from tollkeeper.errors import Misuse
from tollkeeper.gate.sdk.aio import AsyncGate
from tollkeeper.gate.sdk.gate import Gate
from tollkeeper.gate.sdk.identity import Identity
from tollkeeper.gate.sdk.metered import AsyncMeteredCall, MeteredCall
from tollkeeper.gate.sdk.wrapping.endpoints import is_allowed
from tollkeeper.gate.sdk.wrapping.planning import Planned, Rules, plan
from tollkeeper.gate.sdk.wrapping.reading import AsyncReading, Reading, aend, end, tell
from tollkeeper.gate.sdk.wrapping.responses import look_on
from tollkeeper.gate.sdk.wrapping.settings import WrapSettings
from tollkeeper.gate.sdk.wrapping.sockets import PATH, copying, without_sockets

C = TypeVar("C")
FAMILIES = ("anthropic", "openai")
_FRAMED = frozenset({"AnthropicBedrock", "AsyncAnthropicBedrock"})
_MARK = "_tollkeeper_rules"


def wrap(
    gate: Gate | AsyncGate,
    client: C,
    *,
    default: Identity | None,
    settings: WrapSettings | None,
    allow: Collection[str],
) -> C:
    """A client like this one, each model call of which is held before and settled after it."""
    if isinstance(allow, str):
        raise Misuse('allow must be paths, as ("/embeddings",), not one text')
    family, is_async = _recognised(client)
    if is_async is not isinstance(gate, AsyncGate):
        wanted = "an AsyncGate" if is_async else "a Gate"
        raise Misuse(f"{type(client).__name__} needs {wanted}, not {type(gate).__name__}")
    rules = Rules(
        family=family,
        default=default,
        settings=settings or WrapSettings(),
        allow=tuple(allow),
        bytes_per_token=gate.settings.bytes_per_token,
    )
    bound: C = _bound(gate, client.copy(), rules)  # type: ignore[attr-defined] # it is one of theirs
    return bound


def _recognised(client: object) -> tuple[str, bool]:
    """The library that a client is of, and whether it is for asyncio."""
    if _MARK in getattr(client, "__dict__", {}):
        raise Misuse("the client is wrapped: wrapped again, it would hold twice for every call")
    modules = {kind.__module__.partition(".")[0] for kind in type(client).__mro__}
    families = [family for family in FAMILIES if family in modules]
    request = getattr(type(client), "request", None)
    if not families or request is None or not hasattr(client, "copy"):
        raise Misuse(
            f"gate.wrap takes a client of {' or '.join(FAMILIES)}, not {type(client).__name__}: "
            "use `metered` around the calls of others"
        )
    if not _FRAMED.isdisjoint(kind.__name__ for kind in type(client).__mro__):
        raise Misuse(
            f"gate.wrap doesn't take {type(client).__name__}: its streams come in frames of AWS, "
            "which aren't understood; take AnthropicBedrockMantle, or use `metered` around the calls"
        )
    return families[0], inspect.iscoroutinefunction(request)


def _bound(gate: Gate | AsyncGate, client: Any, rules: Rules) -> Any:
    """The client with its requests held, and the copies that are made of it as well.

    The methods are replaced on the object: the libraries tell by a client's class how it signs in.
    """
    request, copy = client.request, client.copy
    if rules.family == "openai" and not is_allowed(PATH, rules.allow):
        without_sockets(client)
        copy = copying(copy)

    @wraps(copy)
    def copied(*args: Any, **kwargs: Any) -> Any:
        return _bound(gate, copy(*args, **kwargs), rules)

    if isinstance(gate, AsyncGate):
        held: Callable[..., Any] = _async_held(gate, request, rules)
    else:
        held = _held(gate, request, rules)
    vars(client).update({"request": held, "copy": copied, "with_options": copied, _MARK: rules})
    return client


def _held(gate: Gate, request: Callable[..., Any], rules: Rules) -> Callable[..., Any]:
    names = rules.settings.models

    @wraps(request)
    def held(cast_to: Any, options: Any, **kwargs: Any) -> Any:
        planned = plan(options, rules)
        if planned is None:
            return request(cast_to, options, **kwargs)
        call = MeteredCall(gate, planned.asked, None, likely=planned.likely, names=names)
        call.__enter__()
        try:
            answer = request(cast_to, planned.options, **kwargs)
        except BaseException as error:
            end(call, error)
            raise
        response = _unread(answer)
        if response is None:
            tell(call, _document(answer))
            end(call, None)
        else:
            look_on(response, Reading(call, **_reading(response, planned)))
        return answer

    return held


def _async_held(
    gate: AsyncGate, request: Callable[..., Awaitable[Any]], rules: Rules
) -> Callable[..., Awaitable[Any]]:
    names = rules.settings.models

    @wraps(request)
    async def held(cast_to: Any, options: Any, **kwargs: Any) -> Any:
        planned = plan(options, rules)
        if planned is None:
            return await request(cast_to, options, **kwargs)
        call = AsyncMeteredCall(gate, planned.asked, None, likely=planned.likely, names=names)
        await call.__aenter__()
        try:
            answer = await request(cast_to, planned.options, **kwargs)
        except BaseException as error:
            await aend(call, error)
            raise
        response = _unread(answer)
        if response is None:
            tell(call, _document(answer))
            await aend(call, None)
        else:
            look_on(response, AsyncReading(call, **_reading(response, planned)))
        return answer

    return held


def _reading(response: Any, planned: Planned) -> dict[str, bool]:
    kind = response.headers.get("content-type", "")
    is_stream = kind.startswith("text/event-stream")
    return {"is_stream": is_stream, "hides_usage": planned.hides_usage and is_stream}


def _response(answer: Any) -> Any:
    """The HTTP response behind a stream or a raw answer; None behind a model."""
    for found in (
        answer,
        getattr(answer, "http_response", None),
        getattr(answer, "response", None),
    ):
        if (
            hasattr(found, "iter_bytes")
            and hasattr(found, "is_closed")
            and hasattr(found, "stream")
        ):
            return found
    return None


def _unread(answer: Any) -> Any:
    """The HTTP response that the caller is still to read; None where all of it was read."""
    response = _response(answer)
    return None if response is None or response.is_closed else response


def _document(answer: Any) -> Any:
    """What was answered: the library's model, or a raw answer's document."""
    response = _response(answer)
    if response is None:
        return answer
    try:
        return response.json()
    except ValueError:
        return None
