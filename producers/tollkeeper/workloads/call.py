"""One model call of a public trace: when it came and its tokens, before anyone is said to have made it."""

from __future__ import annotations

import msgspec


class Call(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """`line` is the line's number in the file, from 1; `occurred_at` is in microseconds."""

    line: int
    occurred_at: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0

    @property
    def prompt_tokens(self) -> int:
        """All that was sent, cached or not: the trace's own figure."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_5m_tokens

    def moved(self, micros: int) -> Call:
        """The same call at another time."""
        return msgspec.structs.replace(self, occurred_at=self.occurred_at + micros)
