"""Usage of Anthropic's Messages API: whole messages, and streams of events.

`input_tokens` leaves out what was read from and written to the cache. A call may have been more than
one inference: `usage.iterations` lists a compaction of the context, and a second model's advice, whose
tokens the totals leave out although they are billed; each becomes a further part. A declined attempt
before a fallback model answered isn't counted: its bill depends on a credit that usage doesn't show.

Must not import the SDK.
"""

from __future__ import annotations

from collections.abc import Mapping

from tollkeeper.errors import InvalidInput
from tollkeeper.metering.adapters.provider import (
    ProviderUsage,
    count,
    field,
    optional_text,
    part,
    text,
)

_PARTS = frozenset({"compaction", "advisor_message"})
_COUNTED = frozenset({"message", "fallback_message"})
_NO_REGION = frozenset({"global", "not_available"})
_TOP_FIELDS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation",
    "server_tool_use",
    "service_tier",
    "inference_geo",
    "speed",
    "iterations",
)


def usage_of(message: object) -> ProviderUsage:
    """The usage of a whole message, as the SDK's model or as a dict. InvalidInput names the field."""
    usage = part(message, "usage", "")
    if usage is None:
        raise InvalidInput("usage", "must be there")
    return _provider_usage(
        usage,
        model=text(message, "model", ""),
        request_id=optional_text(message, "id", ""),
    )


class AnthropicStream:
    """Adds up a stream: `feed` every event, then `usage()`.

    The counts of `message_delta` are cumulative, so the last value of each field wins.
    """

    def __init__(self) -> None:
        self._model: str | None = None
        self._request_id: str | None = None
        self._fields: dict[str, object] = {}
        self.is_complete = False
        """Whether the stream ended with its final usage."""

    def feed(self, event: object) -> None:
        """Take the next event; events without usage are ignored."""
        kind = field(event, "type")
        if kind == "message_start":
            message = part(event, "message", "")
            self._model = text(message, "model", "message.")
            self._request_id = optional_text(message, "id", "message.")
            self._merge(part(message, "usage", "message."))
        elif kind == "message_delta":
            usage = part(event, "usage", "")
            self._merge(usage)
            self.is_complete = usage is not None

    def usage(self) -> ProviderUsage:
        """What the stream reported. InvalidInput when it was cut off before its final usage."""
        if not self.is_complete:
            raise InvalidInput(
                "message_delta",
                "must have come with the final usage: the stream was cut off; emit what was seen "
                "(`seen()`) with usage_source='estimated'",
            )
        return self.seen()

    def seen(self) -> ProviderUsage:
        """What was reported so far: after a cut a lower bound, to be emitted as estimated."""
        if self._model is None:
            raise InvalidInput("message_start", "must have come before usage is asked for")
        return _provider_usage(self._fields, model=self._model, request_id=self._request_id)

    def _merge(self, usage: object) -> None:
        for name in _TOP_FIELDS:
            value = field(usage, name)
            if value is not None:
                self._fields[name] = value


def _provider_usage(usage: object, *, model: str, request_id: str | None) -> ProviderUsage:
    path = "usage."
    tools = part(usage, "server_tool_use", path)
    tier = text(usage, "service_tier", path, "standard")
    speed = text(usage, "speed", path, "standard")
    region = text(usage, "inference_geo", path, "global")
    region = "global" if region in _NO_REGION else region
    written_5m, written_1h = _cache_writes(usage, path)
    return ProviderUsage(
        model=model,
        request_id=request_id,
        input_tokens=count(usage, "input_tokens", path, required=True),
        output_tokens=count(usage, "output_tokens", path, required=True),
        cache_read_tokens=count(usage, "cache_read_input_tokens", path),
        cache_write_5m_tokens=written_5m,
        cache_write_1h_tokens=written_1h,
        web_search_requests=count(tools, "web_search_requests", f"{path}server_tool_use."),
        service_tier=tier,
        speed=speed,
        region=region,
        further=_further(usage, model, request_id, tier, speed, region),
    )


def _cache_writes(usage: object, path: str) -> tuple[int, int]:
    """Tokens written for 5 minutes and for an hour; a total without its split is for 5 minutes."""
    total = count(usage, "cache_creation_input_tokens", path)
    split = part(usage, "cache_creation", path)
    if split is None:
        return total, 0
    five_minutes = count(split, "ephemeral_5m_input_tokens", f"{path}cache_creation.")
    one_hour = count(split, "ephemeral_1h_input_tokens", f"{path}cache_creation.")
    # A stream's split comes with its first event only, the total again with the last: what the
    # total has beyond the split was written with the default lifetime.
    return five_minutes + max(0, total - five_minutes - one_hour), one_hour


def _further(
    usage: object, model: str, request_id: str | None, tier: str, speed: str, region: str
) -> tuple[ProviderUsage, ...]:
    iterations = field(usage, "iterations") or ()
    if not isinstance(iterations, (list, tuple)):
        raise InvalidInput("usage.iterations", f"must be a list, not {type(iterations).__name__}")
    parts = []
    for number, iteration in enumerate(iterations):
        path = f"usage.iterations[{number}]."
        kind = _kind(iteration, path)
        if kind not in _PARTS:
            continue
        written_5m, written_1h = _cache_writes(iteration, path)
        parts.append(
            ProviderUsage(
                model=text(iteration, "model", path, model if kind == "compaction" else None),
                request_id=request_id,
                input_tokens=count(iteration, "input_tokens", path, required=True),
                output_tokens=count(iteration, "output_tokens", path, required=True),
                cache_read_tokens=count(iteration, "cache_read_input_tokens", path),
                cache_write_5m_tokens=written_5m,
                cache_write_1h_tokens=written_1h,
                service_tier=tier,
                speed=speed,
                region=region,
            )
        )
    return tuple(parts)


def _kind(iteration: object, path: str) -> str:
    if not isinstance(iteration, Mapping) and not hasattr(iteration, "type"):
        raise InvalidInput(path.rstrip("."), "must be an object with a type")
    kind = text(iteration, "type", path)
    if kind not in _PARTS and kind not in _COUNTED:
        known = ", ".join(sorted(_PARTS | _COUNTED))
        raise InvalidInput(
            f"{path}type", f"must be one of {known}: how another kind is billed isn't known"
        )
    return kind
