"""Making batches of what a poll brought: sorted, without repeats and holes, decoded. Pure.

A partition whose records can't go on (a hole, an unknown schema) is cut there and named; what stands
before the cut, and every other partition, is folded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import lt

from tollkeeper.errors import Halted, InvalidInput, LogGap, UnknownSchema
from tollkeeper.events.codec import decode
from tollkeeper.events.quarantine import QuarantineDiscarded, QuarantineReleased
from tollkeeper.ledger.fold import Outcome
from tollkeeper.log.port import LogRecord

Taken = tuple[LogRecord, Outcome]
_DECISIONS = frozenset({QuarantineReleased, QuarantineDiscarded})


@dataclass(slots=True)
class Prepared:
    """Decoded records by partition, each contiguous from the partition's position."""

    partitions: dict[int, list[Taken]] = field(default_factory=dict)
    halted: dict[int, Halted] = field(default_factory=dict)
    decisions: bool = False


def prepare(records: Sequence[LogRecord], positions: Mapping[int, int]) -> Prepared:
    """Decode the records that come next at `positions` (next offset of each partition).

    Records below a position were folded before and are dropped; the order of the input doesn't matter.
    """
    prepared = Prepared()
    for partition, ordered in _by_partition(records).items():
        taken: list[Taken] = []
        expected = positions[partition]
        for record in ordered:
            if record.offset < expected:
                continue
            if record.offset > expected:
                prepared.halted[partition] = LogGap(
                    f"partition {partition}: offset {expected} is missing, the log goes on at "
                    f"{record.offset}; records were lost, ask the log's operator",
                    partition=partition,
                )
                break
            try:
                outcome = decode_outcome(record.value)
            except UnknownSchema as unknown:
                prepared.halted[partition] = UnknownSchema(
                    unknown.schema_id, partition=partition, offset=record.offset
                )
                break
            if type(outcome) in _DECISIONS:
                prepared.decisions = True
            taken.append((record, outcome))
            expected += 1
        if taken:
            prepared.partitions[partition] = taken
    return prepared


def rounds(prepared: Prepared) -> Iterator[dict[int, list[Taken]]]:
    """Cut what was prepared so that decisions about dead letters stand only at a round's head.

    Dead letters are settled when their round is written, so a decision must come after that: else the
    result would depend on where a batch happened to end, and a replay would differ from the live fold.
    """
    if not prepared.decisions:
        if prepared.partitions:
            yield prepared.partitions
        return
    rest = prepared.partitions
    while rest:
        heads = {partition: _head(taken) for partition, taken in rest.items()}
        yield heads
        rest = {
            partition: taken[len(heads[partition]) :]
            for partition, taken in rest.items()
            if len(taken) > len(heads[partition])
        }


def decode_outcome(value: bytes) -> Outcome:
    """The event in the bytes, or the named error that it is instead. Raises UnknownSchema."""
    try:
        return decode(value)
    except InvalidInput as problem:
        return problem


def _by_partition(records: Sequence[LogRecord]) -> dict[int, list[LogRecord]]:
    groups: dict[int, list[LogRecord]] = {}
    for record in records:
        group = groups.get(record.partition)
        if group is None:
            groups[record.partition] = [record]
        else:
            group.append(record)
    for group in groups.values():
        offsets = [record.offset for record in group]
        if not all(map(lt, offsets, offsets[1:])):
            distinct = dict(zip(offsets, group, strict=True))
            group[:] = [distinct[offset] for offset in sorted(distinct)]
    return groups


def _head(taken: list[Taken]) -> list[Taken]:
    in_head = True
    for place, (_, outcome) in enumerate(taken):
        is_decision = type(outcome) in _DECISIONS
        if is_decision and not in_head:
            return taken[:place]
        in_head = in_head and is_decision
    return taken
