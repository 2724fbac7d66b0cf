"""Reader of the Azure LLM inference traces: CSV with TIMESTAMP, ContextTokens, GeneratedTokens.

Source: Patel et al., "Splitwise: Efficient generative LLM inference using phase splitting", ISCA 2024
(CC-BY 4.0). The trace knows nothing of caches: its context tokens are uncached input. Its times carry
no zone and are taken as UTC; their seventh decimal is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from tollkeeper.errors import InvalidInput
from tollkeeper.events.rules import instant, integer
from tollkeeper.events.usage import MAX_COUNT
from tollkeeper.money.instants import to_micros
from tollkeeper.workloads.call import Call
from tollkeeper.workloads.lines import ByteStream, numbered_lines
from tollkeeper.workloads.rejected import RejectedLine, rejected

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"
_TIMESTAMP = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[ T]([0-9:]{8})(?:\.([0-9]{1,9}))?")
_COUNT = re.compile(r"[0-9]{1,18}")
_count = integer(0, MAX_COUNT)


def read_azure(stream: ByteStream) -> Iterator[Call | RejectedLine]:
    """Each line as a call or as rejected. With another header nothing is read: columns may be swapped."""
    lines = numbered_lines(stream)
    for header in lines:
        if not isinstance(header, RejectedLine) and header == HEADER:
            break
        number = header.line if isinstance(header, RejectedLine) else header.number
        yield RejectedLine(number, "header", f"must be {HEADER}; nothing of the file was read")
        return
    for line in lines:
        if isinstance(line, RejectedLine):
            yield line
            continue
        try:
            call = _parse(line, line.number)
        except InvalidInput as error:
            yield rejected(line.number, error)
            continue
        yield call


def _parse(text: str, number: int) -> Call:
    columns = text.split(",")
    if len(columns) != 3:
        raise InvalidInput("line", f"must have the 3 columns {HEADER}, not {len(columns)}")
    return Call(
        line=number,
        occurred_at=_micros(columns[0]),
        input_tokens=_tokens("ContextTokens", columns[1]),
        output_tokens=_tokens("GeneratedTokens", columns[2]),
    )


def _micros(text: str) -> int:
    parts = _TIMESTAMP.fullmatch(text)
    if parts is None:
        raise InvalidInput("TIMESTAMP", "must be a time such as 2023-11-16 18:15:46.6805900")
    day, time, fraction = parts.groups()
    try:
        second = datetime.fromisoformat(f"{day}T{time}").replace(tzinfo=UTC)
    except ValueError:
        raise InvalidInput("TIMESTAMP", "must be a time that the calendar has") from None
    micros = to_micros(second) + int((fraction or "")[:6].ljust(6, "0"))
    instant("TIMESTAMP", micros)
    return micros


def _tokens(field: str, text: str) -> int:
    if _COUNT.fullmatch(text) is None:
        raise InvalidInput(field, f"must be a whole number from 0 to {MAX_COUNT}")
    tokens = int(text)
    _count(field, tokens)
    return tokens
