"""Server-sent events out of a body's bytes, as they pass by. Pure.

Whoever reads the answer gets the same bytes, without the events that only the gate had asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import msgspec

DONE = object()
"""What ends a stream of OpenAI's: an event that carries no document."""

_END = re.compile(rb"(?:(?>\r\n|\n|\r)){2}")
_LINE = re.compile(rb"\r\n|\n|\r")
_LONGEST_END = 4


class Events:
    """Takes a body in pieces; `feed` answers the documents that became complete with this piece."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, piece: bytes) -> list[object]:
        """The JSON documents of the events that end in this piece; other data is left out."""
        documents = []
        for event in self.split(piece):
            document = document_of(event)
            if document is not None:
                documents.append(document)
        return documents

    def split(self, piece: bytes) -> list[bytes]:
        """The events that end in this piece, each with the empty line that ends it."""
        searched = max(0, len(self._rest) - _LONGEST_END)
        self._rest += piece
        events, start = [], 0
        for end in self._ends(searched):
            events.append(bytes(self._rest[start:end]))
            start = end
        del self._rest[:start]
        return events

    def _ends(self, searched: int) -> Iterator[int]:
        """Where events end; ten times faster where lines end as both providers end them."""
        if b"\r" in self._rest:
            yield from (found.end() for found in _END.finditer(self._rest, searched))
            return
        at = self._rest.find(b"\n\n", searched)
        while at >= 0:
            yield at + 2
            at = self._rest.find(b"\n\n", at + 2)

    def rest(self) -> bytes:
        """What came after the last complete event; nothing is left of it."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest


class Without:
    """The same body, event by event, without those that `is_hidden` names."""

    def __init__(self, is_hidden: Callable[[object], bool]) -> None:
        self._is_hidden = is_hidden
        self._events = Events()

    def feed(self, piece: bytes) -> tuple[list[object], bytes]:
        """The documents that became complete, and the bytes to pass on."""
        documents, shown = [], bytearray()
        for event in self._events.split(piece):
            document = document_of(event)
            if document is not None:
                documents.append(document)
            if document is None or not self._is_hidden(document):
                shown += event
        return documents, bytes(shown)

    def rest(self) -> bytes:
        """What is passed on at the end."""
        return self._events.rest()


def document_of(event: bytes) -> object:
    """The JSON document that an event carries; DONE, or None when it carries neither."""
    lines = _LINE.split(event)
    data = b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
    if not data.startswith(b"{"):
        return DONE if data.startswith(b"[DONE]") else None
    return parsed(data)


def parsed(data: bytes) -> object:
    """The JSON document; None where it is none.

    The standard library reads what msgspec refuses and the clients take, such as half an emoji.
    """
    for decode in (msgspec.json.decode, json.loads):
        try:
            return decode(data)
        except (msgspec.DecodeError, ValueError, RecursionError):
            continue
    return None
