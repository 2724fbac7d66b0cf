"""What a provider's answer consumed, whole or streamed, as it is: Anthropic's and OpenAI's.

Of a stream that was cut, what was seen: the provider's own counts where they came, the declared input
where they didn't, and the output estimated from its text. Must not import either SDK.
"""

from __future__ import annotations

import msgspec

from tollkeeper.errors import InvalidInput
from tollkeeper.metering.adapters import anthropic, openai
from tollkeeper.metering.adapters.provider import ProviderUsage, field
from tollkeeper.rating.worst_case import Expected

_OPENAI_OBJECTS = ("chat.completion", "response")
_TEXTS = ("text", "partial_json", "thinking", "content", "refusal", "reasoning_content")
"""Where a delta carries what the model wrote."""


def usage_of(answer: object) -> ProviderUsage:
    """The usage of a whole answer. InvalidInput: it is neither provider's, or carries none."""
    if field(answer, "object") in _OPENAI_OBJECTS:
        return openai.usage_of(answer)
    if field(answer, "type") == "message":
        return anthropic.usage_of(answer)
    raise InvalidInput(
        "response",
        "must be Anthropic's message, or OpenAI's chat completion or response, not "
        f"{type(answer).__name__}: report the usage of others with call.usage(...)",
    )


class StreamSeen:
    """Takes every event of one stream."""

    def __init__(self, expected: Expected, *, bytes_per_token: int) -> None:
        self._expected = expected
        self._bytes_per_token = bytes_per_token
        self._adapter: anthropic.AnthropicStream | openai.OpenAIStream | None = None
        self._model: str | None = None
        self._request_id: str | None = None
        self._written_bytes = 0
        self._pieces = 0

    @property
    def has_begun(self) -> bool:
        """Whether anything came."""
        return self._adapter is not None

    @property
    def is_complete(self) -> bool:
        """Whether the provider's final count came."""
        return self._adapter is not None and self._adapter.is_complete

    @property
    def output_tokens(self) -> int:
        """About how many tokens were written: rather too many."""
        return max(self._pieces, -(-self._written_bytes // self._bytes_per_token))

    def feed(self, event: object) -> None:
        """Take the next event."""
        if self._adapter is None:
            self._adapter = _adapter_of(event)
        self._adapter.feed(event)
        self._model = self._model or _named(event, "model")
        self._request_id = self._request_id or _named(event, "id")
        # JSON may cut an emoji in half: a lone surrogate has its bytes as well.
        written = sum(len(text.encode("utf-8", "surrogatepass")) for text in _texts(event))
        if written:
            self._pieces += 1
            self._written_bytes += written

    def usage(self) -> ProviderUsage:
        """What the provider counted; where it didn't, what was seen. See `is_complete`."""
        if self._adapter is not None and self._adapter.is_complete:
            return self._adapter.usage()
        seen = self._counted_so_far()
        written = min(self.output_tokens, self._expected.max_output_tokens or self.output_tokens)
        return msgspec.structs.replace(seen, output_tokens=max(seen.output_tokens, written))

    def _counted_so_far(self) -> ProviderUsage:
        if isinstance(self._adapter, anthropic.AnthropicStream):
            try:
                return self._adapter.seen()
            except InvalidInput:  # cut before the first event that counts
                return declared(self._expected)
        return msgspec.structs.replace(
            declared(self._expected),
            model=self._model or self._expected.model,
            request_id=self._request_id,
        )


def declared(expected: Expected, *, output_tokens: int = 0) -> ProviderUsage:
    """What was said before the call, where nothing was counted."""
    return ProviderUsage(
        model=expected.model,
        input_tokens=expected.input_tokens,
        output_tokens=output_tokens,
        service_tier=expected.service_tier,
        speed=expected.speed,
        region=expected.region,
    )


def _adapter_of(event: object) -> anthropic.AnthropicStream | openai.OpenAIStream:
    kind = field(event, "type")
    is_chunk = isinstance(field(event, "choices"), list | tuple)
    if is_chunk or (isinstance(kind, str) and kind.startswith("response.")):
        return openai.OpenAIStream()
    if isinstance(kind, str):
        return anthropic.AnthropicStream()
    raise InvalidInput(
        "stream",
        "must give Anthropic's events, or OpenAI's chunks or events, not "
        f"{type(event).__name__}: report the usage of others with call.usage(...)",
    )


def _named(event: object, name: str) -> str | None:
    for holder in (event, field(event, "response")):
        value = field(holder, name)
        if isinstance(value, str) and value:
            return value
    return None


def _texts(event: object) -> list[str]:
    """What the model wrote in this event; events that repeat it, as SDKs add them, have no delta."""
    delta = field(event, "delta")
    if isinstance(delta, str):
        return [delta]
    deltas = [delta] if delta is not None else []
    choices = field(event, "choices")
    if isinstance(choices, list | tuple):
        deltas += [field(choice, "delta") for choice in choices]
    found: list[object] = []
    for one in deltas:
        found += [field(one, name) for name in _TEXTS]
        calls = field(one, "tool_calls")
        if isinstance(calls, list | tuple):
            found += [field(field(call, "function"), "arguments") for call in calls]
    return [text for text in found if isinstance(text, str)]
