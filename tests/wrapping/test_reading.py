"""What a wrapped call learns of odd bytes: the call site gets them, and never an error of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gate_sdk.answers import CALL, COMPLETION, MODEL, chunk, only

from tollkeeper.gate.sdk import metered
from tollkeeper.gate.sdk.wrapping.reading import Reading
from tollkeeper.testing import FakeGate


def events(*documents: Any) -> bytes:
    """As a server sends them."""
    return b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in documents)


def read(gate: FakeGate, piece: bytes, *, is_stream: bool) -> Reading:
    """Read by a call site, all of it."""
    call = metered(gate, **CALL)
    call.__enter__()
    reading = Reading(call, is_stream=is_stream, hides_usage=False)
    assert reading.saw(piece) == piece
    reading.end(None)
    return reading


def test_an_error_that_is_null_in_every_chunk_is_none() -> None:
    """Some servers that speak OpenAI's language send it, and OpenAI's own library reads on."""
    gate = FakeGate()
    usage = {"prompt_tokens": 900, "completion_tokens": 50}
    last = chunk(None, usage=usage, error=None)
    read(gate, events(chunk("ab", error=None), last), is_stream=True)
    assert (only(gate).output_tokens, only(gate).usage_source) == (50, "reported")


def test_an_error_in_place_of_the_first_chunk_releases() -> None:
    gate = FakeGate()
    reading = read(gate, events({"error": {"message": "overloaded"}}), is_stream=True)
    assert reading.is_complete and gate.usages == [] and gate.reserved_micros == 0


def test_half_an_emoji_is_counted() -> None:
    gate = FakeGate()
    read(gate, events(chunk("abc\ud83d")), is_stream=True)
    assert only(gate).output_tokens == 2
    gate = FakeGate()
    answer = {**COMPLETION, "choices": [{"message": {"content": "\ud83d"}}]}
    read(gate, json.dumps(answer).encode(), is_stream=False)
    assert (only(gate).output_tokens, only(gate).usage_source) == (50, "reported")


@pytest.mark.parametrize(
    "odd",
    [
        b'data: {"a": "\xff"}\n\n',
        b'data: {"a": ' + b"[" * 100_000 + b"\n\n",
        events({"type": {"a": 1}, "choices": []}),
        events({"type": ["error"]}),
    ],
    ids=["no_utf8", "deep", "type_object", "type_list"],
)
def test_what_can_t_be_understood_reaches_the_call_site_and_is_estimated(odd: bytes) -> None:
    gate = FakeGate()
    read(gate, odd + events(chunk("abc")), is_stream=True)
    assert (only(gate).output_tokens, only(gate).model) == (1, MODEL)
    gate = FakeGate()
    read(gate, odd.removeprefix(b"data: "), is_stream=False)
    assert only(gate).usage_source == "estimated"
