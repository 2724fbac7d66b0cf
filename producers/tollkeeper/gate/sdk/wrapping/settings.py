"""What a wrapped client takes for granted where a request doesn't say it. Each is rather too much."""

from __future__ import annotations

import msgspec

from tollkeeper.errors import Misuse


class WrapSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How large a hold is, and how usage is learnt. What isn't used of a hold is free after the call."""

    bytes_per_token: int = 1
    """How many bytes of the request, in UTF-8, make a token of the prompt.

    One is a bound that no tokenizer exceeds. English prose has about four, code about three: three
    holds less and may fall short where a prompt is mostly digits, symbols or rare scripts.
    """
    max_input_tokens: int = 1_000_000
    """The largest prompt that any model takes: no request is held for more a reading."""
    max_output_tokens: int = 128_000
    """Held for where the request names no maximum of its own."""
    image_tokens: int = 5_000
    """Held for an image, whose tokens depend on its size in pixels and not on its bytes."""
    unseen_tokens: int = 100_000
    """Held for each thing that the request only refers to: a file, a document, an earlier response."""
    tool_overhead_tokens: int = 4_000
    """What the provider adds to a prompt that has tools."""
    tool_result_tokens: int = 20_000
    """What one use of a provider's own tool, a web search for example, adds to the prompt."""
    tool_uses: int = 5
    """How often the provider's own tools are used in a call that sets no maximum."""
    models: dict[str, str] = {}
    """What the rate card calls a model that this client or its provider calls otherwise.

    Needed for names of a deployment and for those of other clouds; the date of a snapshot isn't.
    """
    asks_stream_usage: bool = True
    """Whether a chat completion's stream is asked for its usage where the call site didn't.

    The call site doesn't see the chunk that carries it. False leaves the request as it is, for
    servers that know no `stream_options`: such streams are charged as estimated from their text.
    """

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name not in ("models", "asks_stream_usage") and (
                type(value) is not int or value < 1
            ):
                raise Misuse(f"{name} must be a whole number of at least 1")
