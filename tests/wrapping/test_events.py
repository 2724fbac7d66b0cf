"""Events are read out of a passing body however it is cut, and the body passes as it is."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.gate.sdk.wrapping.events import DONE, Events, Without

LINES = [
    "event: a",
    'data: {"n": 1}',
    "",
    ": a comment",
    "",
    'data: {"n":',
    "data: 2}",
    "",
    "data: [DONE]",
    "",
    'data: {"broken": ',
    "",
    'data:{"n": "ä"}',
    "",
    'data: {"n": "unfinished"}',
]
DOCUMENTS = [{"n": 1}, {"n": 2}, DONE, {"n": "ä"}]


def cut(body: bytes, at: list[int]) -> list[bytes]:
    """The body cut at these places."""
    places = sorted({place % (len(body) + 1) for place in at} | {0, len(body)})
    return [body[a:b] for a, b in itertools.pairwise(places)]


@given(ending=st.sampled_from(["\n", "\r\n", "\r"]), at=st.lists(st.integers(0, 10_000)))
def test_documents_are_found_wherever_the_body_is_cut(ending: str, at: list[int]) -> None:
    events = Events()
    pieces = cut(ending.join(LINES).encode(), at)
    assert [document for piece in pieces for document in events.feed(piece)] == DOCUMENTS


@given(ending=st.sampled_from(["\n", "\r\n", "\r"]), at=st.lists(st.integers(0, 10_000)))
def test_a_body_passes_unchanged_but_for_what_is_hidden(ending: str, at: list[int]) -> None:
    body = ending.join(LINES).encode()
    everything, rest = Without(lambda _: False), Without(lambda document: document == {"n": 2})
    passed = [everything.feed(piece)[1] for piece in cut(body, at)]
    assert b"".join(passed) + everything.rest() == body
    pieces = [rest.feed(piece) for piece in cut(body, at)]
    assert [one for documents, _ in pieces for one in documents] == DOCUMENTS
    left = b"".join(shown for _, shown in pieces) + rest.rest()
    assert b'{"n":' + ending.encode() not in left
    assert Events().feed(left) == [{"n": 1}, DONE, {"n": "ä"}]


@pytest.mark.parametrize("body", [b"", b"\n", b"\n\n\n\n", b"data", b"data: 1\n\n", b"data: {\n\n"])
def test_what_carries_no_document_is_nothing(body: bytes) -> None:
    assert Events().feed(body) == []
