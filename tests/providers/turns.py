"""One model turn that a stand-in answers with, in no provider's format, and how its stream is sent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from providers.stand_in import Answer, Ending, in_pieces


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says, and what it is billed as. `input_tokens` leaves the cache out.

    `model` None answers with the model that was asked. A stream is sent whole, or as far as
    `events` of it before `ending`; with `error` an event that says so comes instead of the rest.
    `piece_bytes` cuts it anywhere, within characters too.
    """

    text: tuple[str, ...] = ("Cäsar", " came, ", "saw")
    tool: tuple[str, str] | None = None
    model: str | None = None
    input_tokens: int = 100
    output_tokens: int = 20
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    web_searches: int = 0
    tier: str | None = None
    events: int | None = None
    error: str | None = None
    ending: Ending = Ending.WELL
    piece_bytes: int | None = None
    is_gzipped: bool = False


def as_stream(turn: Turn, events: Sequence[bytes], error_event: bytes) -> Answer:
    """The events as the turn wants them sent."""
    sent = list(events[: turn.events])
    if turn.error is not None:
        sent.append(error_event)
    pieces: Sequence[bytes] = sent
    if turn.piece_bytes is not None:
        pieces = in_pieces(b"".join(sent), turn.piece_bytes)
    return Answer(
        pieces=tuple(pieces), ending=turn.ending, is_stream=True, is_gzipped=turn.is_gzipped
    )


def as_document(turn: Turn, document: dict[str, Any]) -> Answer:
    """The whole answer as the turn wants it sent; `piece_bytes` and `ending` cut it off."""
    data = json.dumps(document).encode()
    pieces = (data,) if turn.ending is Ending.WELL else (data[: len(data) // 2],)
    return Answer(pieces=pieces, ending=turn.ending, is_gzipped=turn.is_gzipped)


def event(name: str | None, document: object) -> bytes:
    """A server-sent event; without a name only its data."""
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {json.dumps(document, ensure_ascii=False)}\n\n".encode()
