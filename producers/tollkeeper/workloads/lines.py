"""Lines of a file that nobody has vouched for: bounded, numbered, and each either text or rejected.

Must not know what the lines mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Protocol

from tollkeeper.errors import InvalidInput
from tollkeeper.workloads.rejected import RejectedLine

MAX_LINE_BYTES = 65_536
"""The longest line of the public traces has 2,500 bytes; a line of usage has under 1,000."""

MAX_NUMBER_DIGITS = 20
_TOO_LARGE: int = 10**20
_BYTE_ORDER_MARK = "\ufeff"


class ByteStream(Protocol):
    """What is needed of a file opened in binary mode, of standard input or of `io.BytesIO`."""

    def readline(self, size: int = -1, /) -> bytes: ...


class Line(str):
    """A line's text and its number in the file, from 1."""

    __slots__ = ("number",)
    number: int


def numbered_lines(stream: ByteStream) -> Iterator[Line | RejectedLine]:
    """Each line of `stream` that isn't blank, without its end; at most MAX_LINE_BYTES are held."""
    number = 0
    while raw := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES and not raw.endswith(b"\n"):
            _skip_rest(stream)
            yield RejectedLine(number, "line", f"must have at most {MAX_LINE_BYTES} bytes")
            continue
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            yield RejectedLine(number, "line", f"must be UTF-8, which byte {error.start} isn't")
            continue
        # Some editors put a byte order mark before the first line; it is no part of it.
        text = text.removeprefix(_BYTE_ORDER_MARK).strip(" \t\r\n")
        if text:
            line = Line(text)
            line.number = number
            yield line


def json_object(text: str) -> dict[str, object]:
    """One JSON object, with every key once; InvalidInput otherwise.

    A number that isn't whole comes back as a float, and a whole one of more than MAX_NUMBER_DIGITS as
    one that is larger than any rule allows: neither is worth the time that its digits would take.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_distinct, parse_int=_whole, parse_constant=_none
        )
    except RecursionError:
        raise InvalidInput("line", "must not nest values so deeply") from None
    except ValueError:
        # The parser's message is left out: what it quotes and how it counts isn't for our readers.
        raise InvalidInput("line", "must be one JSON object") from None
    if type(value) is not dict:
        raise InvalidInput("line", "must be one JSON object, not another JSON value")
    return value


def shown(text: str) -> str:
    """A name that came from outside, short and in ASCII, so that it fits a table and a terminal."""
    return ascii(text)[1:-1][:60]


def _skip_rest(stream: ByteStream) -> None:
    """Read to the line's end in pieces; as long as the line is, so long does it last."""
    while piece := stream.readline(MAX_LINE_BYTES):
        if piece.endswith(b"\n"):
            return


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Of a key that stands twice, one value would be dropped without a word."""
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InvalidInput(shown(twice), "must stand only once in the line")
    return found


def _whole(digits: str) -> int:
    if len(digits) > MAX_NUMBER_DIGITS:
        return -_TOO_LARGE if digits.startswith("-") else _TOO_LARGE
    return int(digits)


def _none(name: str) -> object:
    raise InvalidInput("line", f"must be JSON, which has no {name}")
