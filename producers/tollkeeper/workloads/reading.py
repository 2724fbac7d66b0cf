"""Every file format that usage can be read from, behind one function."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from tollkeeper.metering.usage import Usage
from tollkeeper.workloads.event_lines import read_event_lines
from tollkeeper.workloads.lines import ByteStream
from tollkeeper.workloads.population import DEFAULT_POPULATION, Population
from tollkeeper.workloads.rejected import RejectedLine
from tollkeeper.workloads.traces import read_trace

WorkloadFormat = Literal["events", "azure", "mooncake"]


def read_workload(
    stream: ByteStream,
    workload_format: WorkloadFormat,
    *,
    population: Population = DEFAULT_POPULATION,
    ending_at: int | None = None,
) -> Iterator[Usage | RejectedLine]:
    """Usage and rejected lines of a file opened in binary mode; see `read_trace`.

    The lines of `events` say themselves who, when and with which model, so `population` and
    `ending_at` are for traces only. What is accepted keeps every rule of `UsageRecorded`.
    """
    if workload_format == "events":
        return read_event_lines(stream)
    return read_trace(stream, workload_format, population=population, ending_at=ending_at)
