"""Usage of OpenAI's Chat Completions and Responses APIs: whole answers, and streams.

Here the input *includes* what was read from the cache and, on models that bill it, what was written
to it: both are subtracted. What was written counts as `cache_write_5m`, the nearest token type of the
rate card. Audio tokens are counted as the input and output tokens that they are part of.

Must not import the SDK.
"""

from __future__ import annotations

from tollkeeper.errors import InvalidInput
from tollkeeper.metering.adapters.provider import (
    ProviderUsage,
    count,
    field,
    optional_text,
    part,
    text,
)

_TIERS = {"auto": "standard", "default": "standard"}
"""`flex`, `priority`, `scale` and `batch` keep their names: a tier without a price is quarantined
with its tokens visible, never charged as another one."""

_FINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})


def usage_of(answer: object) -> ProviderUsage:
    """The usage of a chat completion or a response, as the SDK's model or as a dict."""
    usage = part(answer, "usage", "")
    if usage is None:
        raise InvalidInput(
            "usage", "must be there; streams need stream_options={'include_usage': True}"
        )
    is_chat = field(usage, "prompt_tokens") is not None
    prefix, output = ("prompt", "completion_tokens") if is_chat else ("input", "output_tokens")
    path = f"usage.{prefix}_tokens_details."
    details = part(usage, f"{prefix}_tokens_details", "usage.")
    read = count(details, "cached_tokens", path)
    written = count(details, "cache_write_tokens", path)
    total = count(usage, f"{prefix}_tokens", "usage.", required=True)
    if read + written > total:
        raise InvalidInput(
            f"{path}cached_tokens",
            f"must be part of {prefix}_tokens: {read} read and {written} written exceed {total}",
        )
    tier = text(answer, "service_tier", "", "default")
    return ProviderUsage(
        model=text(answer, "model", ""),
        request_id=optional_text(answer, "id", ""),
        input_tokens=total - read - written,
        output_tokens=count(usage, output, "usage.", required=True),
        cache_read_tokens=read,
        cache_write_5m_tokens=written,
        web_search_requests=_web_searches(answer),
        service_tier=_TIERS.get(tier, tier),
    )


class OpenAIStream:
    """Takes a stream's chunks or events, and keeps the one that carries the usage."""

    def __init__(self) -> None:
        self._final: object = None

    def feed(self, event: object) -> None:
        """Take the next chunk of a chat completion, or the next event of a response."""
        kind = field(event, "type")
        if isinstance(kind, str) and kind in _FINAL:
            self._final = part(event, "response", "")
        elif field(event, "usage") is not None:
            self._final = event

    @property
    def is_complete(self) -> bool:
        """Whether the stream ended with its final usage."""
        return field(self._final, "usage") is not None

    def usage(self) -> ProviderUsage:
        """What the stream reported. InvalidInput when it ended without usage.

        Emit your own count with usage_source='estimated' then.
        """
        if not self.is_complete:
            raise InvalidInput(
                "usage",
                "must have come in the last chunk or event: the stream was cut off, or a chat "
                "completion was asked for without stream_options={'include_usage': True}",
            )
        return usage_of(self._final)


def _web_searches(answer: object) -> int:
    """Searches made by the Responses API's own tool; usage doesn't count them, the output lists them."""
    output = field(answer, "output")
    if not isinstance(output, (list, tuple)):
        return 0
    calls = [item for item in output if field(item, "type") == "web_search_call"]
    return sum(1 for call in calls if _is_search(call))


def _is_search(call: object) -> bool:
    action = field(call, "action")
    return action is None or field(action, "type") in (None, "search")
