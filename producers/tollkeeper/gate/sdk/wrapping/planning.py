"""What is to be done with one request of a wrapped client, before it is made. Pure but for who acts.

Must not know how a request is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import msgspec

from tollkeeper.errors import Misuse
from tollkeeper.events.usage import MAX_COUNT
from tollkeeper.gate.sdk.asks import Ask, ask
from tollkeeper.gate.sdk.identity import Identity, who_acts
from tollkeeper.gate.sdk.wrapping.bodies import plain, size_of
from tollkeeper.gate.sdk.wrapping.endpoints import Api, api_of
from tollkeeper.gate.sdk.wrapping.expecting import expected_of
from tollkeeper.gate.sdk.wrapping.settings import WrapSettings
from tollkeeper.rating.worst_case import Expected


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What was said when the client was wrapped. `family` is the library's name."""

    family: str
    default: Identity | None
    settings: WrapSettings
    allow: tuple[str, ...]
    bytes_per_token: int
    """About how many bytes of a prompt make a token, for what is charged as estimated."""


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """A model call. `likely` is what is charged of it where nobody counted."""

    asked: Ask
    likely: Expected
    options: Any
    """The request's options as they are to be sent."""
    hides_usage: bool
    """Whether the call site didn't ask for the event that carries the usage."""


def plan(options: Any, rules: Rules) -> Planned | None:
    """The model call that the request makes; None: it costs no tokens.

    `options` are the client library's own. Misuse: it isn't understood, or nobody is named who pays.
    """
    api = api_of(rules.family, options.method, options.url, rules.allow)
    if api is None:
        return None
    identity = who_acts(rules.default)
    body, was_used_up = plain(_sent(options))
    most = tuple(map(_countable, expected_of(api, body, rules.settings)))
    first = most[0]
    asked = ask(
        organization=identity.organization,
        member=identity.member,
        surface=identity.surface,
        scopes=identity.scopes,
        **msgspec.structs.asdict(first),
    )
    hides_usage = api is Api.CHAT and _lacks_usage(body, rules.settings)
    if hides_usage:
        body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    likely = min(size_of(body).likely_tokens(rules.bytes_per_token), first.input_tokens)
    return Planned(
        asked=msgspec.structs.replace(asked, further=most[1:]),
        likely=msgspec.structs.replace(first, input_tokens=likely),
        options=_with_body(options, body) if hides_usage or was_used_up else options,
        hides_usage=hides_usage,
    )


def _sent(options: Any) -> Mapping[str, Any]:
    """The body with what the call site adds to it as `extra_body`, which goes before."""
    body, more = options.json_data, options.extra_json
    if body is None and options.content is not None:
        raise Misuse("a wrapped client's model call must have its body as an object, not as bytes")
    if not isinstance(body, Mapping):
        raise Misuse(f"a model call's body must be an object, not {type(body).__name__}")
    return body if more is None else {**body, **more}


def _with_body(options: Any, body: dict[str, Any]) -> Any:
    changed = copy(options)
    changed.json_data = body
    changed.extra_json = None
    return changed


def _lacks_usage(body: Mapping[str, Any], settings: WrapSettings) -> bool:
    if body.get("stream") is not True or not settings.asks_stream_usage:
        return False
    stream_options = body.get("stream_options")
    return not (isinstance(stream_options, dict) and stream_options.get("include_usage"))


def _countable(expected: Expected) -> Expected:
    """No request is refused for a number that its provider would refuse."""
    return msgspec.structs.replace(
        expected,
        input_tokens=min(expected.input_tokens, MAX_COUNT),
        max_output_tokens=min(expected.max_output_tokens, MAX_COUNT),
        web_searches=min(expected.web_searches, MAX_COUNT),
    )
