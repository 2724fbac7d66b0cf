"""Public traces of model calls as usage: who made a call is assigned, when it happened is shifted.

A trace says when a call came and how many tokens it took. It names no organization, member, surface or
model: those are drawn from a population by a hash of the line, so that the same file always gives the
same usage, whatever else is read before it.

Must not know the files' formats (`azure`, `mooncake`).
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Literal, assert_never

from tollkeeper.errors import InvalidEvent, InvalidInput
from tollkeeper.events.rules import instant
from tollkeeper.metering.usage import Usage
from tollkeeper.workloads.azure import read_azure
from tollkeeper.workloads.call import Call
from tollkeeper.workloads.event_ids import time_ordered_id
from tollkeeper.workloads.lines import ByteStream
from tollkeeper.workloads.mooncake import read_mooncake
from tollkeeper.workloads.population import DEFAULT_POPULATION, Casting, Population
from tollkeeper.workloads.rejected import RejectedLine, rejected

TraceFormat = Literal["azure", "mooncake"]

MAX_SHIFTED_CALLS = 2_000_000
"""To end at an instant, the last call must be known before the first is given out: that many wait."""


def read_trace(
    stream: ByteStream,
    trace_format: TraceFormat,
    *,
    population: Population = DEFAULT_POPULATION,
    ending_at: int | None = None,
) -> Iterator[Usage | RejectedLine]:
    """The calls of a trace as usage, in the file's order, and the lines that were rejected.

    With `ending_at` (microseconds since the epoch) all calls are moved by the same distance so that
    the latest of them happened then; rejected lines come first, and InvalidInput is raised when the
    file has more than MAX_SHIFTED_CALLS. Without it each call keeps its time, and nothing is buffered.

    An event id depends on format, organization, line number and time: a trace that is read again with
    the same times gives the same ids, shifted elsewhere it is new usage.
    """
    calls = _calls(stream, trace_format)
    if ending_at is not None:
        instant("ending_at", ending_at)
        calls = _shifted(calls, ending_at)
    casting = Casting(population)
    for call in calls:
        yield call if isinstance(call, RejectedLine) else _usage(call, trace_format, casting)


def _calls(stream: ByteStream, trace_format: TraceFormat) -> Iterator[Call | RejectedLine]:
    match trace_format:
        case "azure":
            return read_azure(stream)
        case "mooncake":
            return read_mooncake(stream)
        case _:
            assert_never(trace_format)


def _shifted(calls: Iterator[Call | RejectedLine], ending_at: int) -> Iterator[Call | RejectedLine]:
    kept: list[Call] = []
    for call in calls:
        if isinstance(call, RejectedLine):
            yield call
            continue
        if len(kept) == MAX_SHIFTED_CALLS:
            raise InvalidInput(
                "file", f"must have at most {MAX_SHIFTED_CALLS} calls, unless it keeps its time"
            )
        kept.append(call)
    distance = ending_at - max((call.occurred_at for call in kept), default=0)
    for call in kept:
        moved = call.moved(distance)
        try:
            instant("occurred_at", moved.occurred_at)
        except InvalidEvent as error:
            yield rejected(call.line, error)
            continue
        yield moved


def _usage(call: Call, trace_format: TraceFormat, casting: Casting) -> Usage:
    # The time isn't hashed: a trace that is shifted keeps its cast.
    text = f"{trace_format}:{call.line}:{call.prompt_tokens}:{call.output_tokens}"
    cast = casting.cast(text.encode())
    name = f"{trace_format}:{cast.organization}:{call.line}:{call.occurred_at}"
    digest = blake2b(name.encode(), digest_size=8).digest()
    return Usage(
        event_id=time_ordered_id(call.occurred_at, int.from_bytes(digest, "big")),
        organization=cast.organization,
        member=cast.member,
        surface=cast.surface,
        model=cast.model,
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        cache_read_tokens=call.cache_read_tokens,
        cache_write_5m_tokens=call.cache_write_5m_tokens,
        occurred_at=call.occurred_at,
    )
