"""A log in memory that is folded into a ledger round by round, and what the gate is told meanwhile."""

from __future__ import annotations

from collections.abc import Mapping

from support.events import NOON, prices

from tollkeeper.events.codec import Event, encode
from tollkeeper.events.emitters import EmitterRetired, EmitterStarted
from tollkeeper.ledger.apply import Folded, fold_round
from tollkeeper.ledger.batch import Taken, prepare, rounds
from tollkeeper.ledger.effects import Effects
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.log.partitioner import partition_for
from tollkeeper.log.port import LogRecord

PARTITIONS = 2
LOG = "log-1"


def started(emitter: str = "em-1") -> EmitterStarted:
    return EmitterStarted(emitter=emitter, occurred_at=NOON)


def retired(emitter: str = "em-1") -> EmitterRetired:
    return EmitterRetired(emitter=emitter, actor="operator", reason="operator", occurred_at=NOON)


class FoldedLog:
    """Every partition begins with the prices; organizations' facts and usage find their own."""

    def __init__(self, ledger: SqlLedger, generation: int = 1) -> None:
        self.ledger = ledger
        self.generation = generation
        self.records: dict[int, list[LogRecord]] = {one: [] for one in range(PARTITIONS)}
        self.folded: dict[int, int] = dict.fromkeys(range(PARTITIONS), 0)
        self.append(prices())

    def append(self, *events: Event | tuple[int, Event]) -> None:
        """Onto each event's own partition, onto every one where it has none, or where a tuple says."""
        for one in events:
            if isinstance(one, tuple):
                self._append(*one)
            elif name := getattr(one, "organization", None):
                self._append(partition_for(name, PARTITIONS), one)
            else:
                for partition in range(PARTITIONS):
                    self._append(partition, one)

    def fold(
        self,
        *events: Event | tuple[int, Event],
        most: int | None = None,
        applied: Mapping[int, int] | None = None,
    ) -> list[Effects]:
        """Append, then fold the next `most` records of each partition, or all; what the gate is told."""
        self.append(*events)
        batch = [
            record
            for partition, records in self.records.items()
            for record in records[self.folded[partition] :][:most]
        ]
        told = []
        for taken in rounds(prepare(batch, self.folded)):
            folded = self.fold_round(taken, applied=applied, with_effects=True)
            assert folded.effects is not None
            told.append(folded.effects)
        return told

    def fold_round(
        self,
        taken: dict[int, list[Taken]],
        *,
        applied: Mapping[int, int] | None = None,
        with_effects: bool = False,
    ) -> Folded:
        """Fold one round."""
        with self.ledger.transaction() as transaction:
            folded = fold_round(
                transaction,
                self.generation,
                taken,
                partition_count=PARTITIONS,
                log_identity=LOG,
                applied=applied,
                with_effects=with_effects,
            )
        assert folded is not None
        self.folded |= {one: records[-1][0].next_offset for one, records in taken.items()}
        return folded

    @property
    def is_folded(self) -> bool:
        """Whether nothing is left."""
        return all(self.folded[one] == len(records) for one, records in self.records.items())

    def _append(self, partition: int, event: Event) -> None:
        log = self.records[partition]
        key = getattr(event, "organization", "").encode() or None
        log.append(LogRecord(partition, len(log), key, encode(event), NOON))
